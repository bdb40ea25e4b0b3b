"""The results as one page of Markdown, the form in which docs/performance.md holds them."""


def report(results):
    """Machine, commit and command, then one table a subject."""
    machine = results["machine"]
    lines = [
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags'])}; load {machine['load']}",
        f"Commit: {machine['commit']}",
        f"Command: `{machine['command']}`",
        "",
        "| collection | documents | recall@10 | recall@100 | p50 ms | p95 ms | exact ms | exact over p50 | refined | scored | inversions |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in results["collections"]:
        lines.append(
            f"| {row['name']} | {row['documents']:,} | {row['recall_10']:.4f} | {row['recall_100']:.4f} | {row['p50_ms']:.2f} "
            f"| {row['p95_ms']:.2f} | {row['exact_ms']:.0f} | {row['exact_ms'] / row['p50_ms']:.0f} | {row['refined']:.0f} "
            f"| {row['scored']:.0f} | {row['inversions']:.3%} |"
        )
    for name, row in results["special"].items():
        inversions = f"{row['inversions']:.3%} " if "inversions" in row else ""
        lines.append(
            f"| {name} | | {row['recall_10']:.4f} | {row['recall_100']:.4f} | {row['p50_ms']:.2f} | {row['p95_ms']:.2f} | | "
            f"| {row['refined']:.0f} | {row['scored']:.0f} | {inversions}|"
        )
    lines += [
        "",
        "| collection | lists | bytes | of f32 rows | build s | build CPU ms per 80 tokens | insert ms | without index | first ms | WAL bytes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in results["collections"]:
        share = row["index_bytes"] / (4 * row["tokens"] * row["dim"])
        each = row["build_cpu_s"] * 1e3 * 80 / row["tokens"]
        lines.append(
            f"| {row['name']} | {row['lists']:,} | {row['index_bytes']:,} | {share:.1%} | {row['build_s']:.1f} | {each:.3f} "
            f"| {row['insert_ms']:.2f} | {row['bare_insert_ms']:.2f} | {row['first_insert_ms']:.1f} "
            f"| {row['insert_wal_bytes']:.0f} |"
        )
    if results["peers"]:
        lines += [
            "",
            "| peer's index, at its defaults | recall@10 | recall@100 | p50 ms | p95 ms | build s | bytes |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
    for name, row in results["peers"].items():
        lines.append(
            f"| {name} | {row['recall_10']:.4f} | {row['recall_100']:.4f} | {row['p50_ms']:.2f} | {row['p95_ms']:.2f} "
            f"| {row['build_s']:.1f} | {row['index_bytes']:,} |"
        )
    return "\n".join(lines)
