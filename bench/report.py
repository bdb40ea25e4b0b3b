"""The results as one page of Markdown, the form in which docs/performance.md holds them."""

from documents import SHAPES


def report(results):
    """Machine, commit and command, then kernels, SQL, recall and the bars."""
    return "\n".join((*_head(results), *_kernels(results), *_sql(results), *_recall(results), *_bars(results)))


def _table(heading, *rows):
    """`heading` names the columns; the ones after the first are numbers."""
    columns = heading.count("|")
    return ["", heading, "|---" + "|---:" * (columns - 2) + "|", *rows]


def _head(results):
    machine = results["machine"]
    return [
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags'])}; load {machine['load']}",
        f"Commit: {machine['commit']}",
        f"Command: `{machine['command']}`",
        f"Vectors: {results['vectors']}, 128 components; {results['rounds']} interleaved runs",
        *(
            f"{shape.name}: {shape.what}, query of {shape.query_tokens} tokens, document of {shape.document_tokens}"
            for shape in SHAPES
        ),
    ]


def _kernels(results):
    kernels = results["kernels"]
    peaks = [
        f"Peak {peak['name']}: {peak['gops']:.0f} Gop/s, {peak['gops'] / peak['clock_x_width_gops']:.0%} of clock x width"
        for peak in kernels["peaks"]
    ]
    # Every kernel at T; elsewhere those that this machine would choose.
    chosen = {(case["shape"], case["element"]): case["kernel"] for case in kernels["cases"]}
    rows = [
        f"| {case['shape']} {case['element']}, {case['kernel']} | {case['cached_us']:.2f} | {case['cold_us']:.2f} | "
        + (f"{case['share']:.1%} of {case['peak']} |" if case["share"] else "|")
        for case in kernels["cases"]
        if case["shape"] == "T" or chosen[case["shape"], case["element"]] == case["kernel"]
    ]
    numpy = [f"| {shape} numpy, one thread | | {us:.1f} | |" for shape, us in results["numpy_us"].items()]
    heading = "| kernels, µs per document | cached | cold | share of the peak, cached |"
    return ["", f"Clock: {kernels['clock_ghz']:.2f} GHz", *peaks, *_table(heading, *rows, *numpy)]


def _sql(results):
    rows = [
        f"| {row['shape']} {row['form']} | {row['score_us']:.1f} | {row['detoast_us']:.1f} "
        f"| {row['to_own_detoast']:.2f} | {row['to_f32']:.3f} |"
        for row in results["sql"]
    ]
    return _table("| SQL, µs per document | score | bare detoast | score over detoast | score over f32's |", *rows)


def _recall(results):
    rows = [f"| {way} | {share:.4f} |" for way, share in results["recall"].items()]
    return _table("| scifact3k, 300 queries | recall@10 |", *rows) if rows else []


def _bars(results):
    verdict = {True: "met", False: "MISSED", None: "not measured"}
    rows = []
    for bar in results["bars"]:
        value = "" if bar["value"] is None else f"{bar['value']:.4g}"
        rows.append(f"| {bar['bar']} | {bar['comparison']} {bar['at']} | {value} | {verdict[bar['met']]} |")
    return _table("| bar | | measured | |", *rows)
