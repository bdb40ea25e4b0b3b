"""What the figures are held to: quotients within one run, on a machine with AVX-512."""

# name, comparison, bar, how the value is found in the results; None where it was not measured.
AT_LEAST, AT_MOST = "≥", "≤"


def judge(results):
    """Every bar with its value and whether it is met."""
    bars = []
    for name, comparison, bar, value in (*_kernels(results), *_sql(results), *_recall(results)):
        met = None if value is None else (value >= bar if comparison == AT_LEAST else value <= bar)
        bars.append({"bar": name, "comparison": comparison, "at": bar, "value": value, "met": met})
    return bars


def _kernels(results):
    cases = {(case["shape"], case["element"], case["kernel"]): case for case in results["kernels"]["cases"]}
    # Both names stand for the same routines of f32.
    wide = "avx512-vnni" if ("T", "f32", "avx512-vnni") in cases else "avx512"

    def share(*key):
        return cases[key]["share"] if key in cases else None

    def times_numpy(shape):
        case = cases.get((shape, "f32", wide))
        return case and results["numpy_us"][shape] / case["cold_us"]

    yield "f32 kernel at T, share of the FMA peak, cached", AT_LEAST, 0.88, share("T", "f32", wide)
    yield "the same with 20 query tokens", AT_LEAST, 0.80, share("T20", "f32", wide)
    yield "f32 kernel with AVX2 at T, share of its FMA peak, cached", AT_LEAST, 0.85, share("T", "f32", "avx2")
    yield "int8 kernel at T, share of the VNNI peak, cached", AT_LEAST, 0.70, share("T", "int8", "avx512-vnni")
    yield "numpy's time at T over the f32 kernel's, cold", AT_LEAST, 4.0, times_numpy("T")
    yield "numpy's time at P over the f32 kernel's, cold", AT_LEAST, 3.0, times_numpy("P")


def _sql(results):
    at_t = {result["form"]: result for result in results["sql"] if result["shape"] == "T"}
    yield "SQL at T: f32 over its own bare detoast", AT_MOST, 1.75, at_t["f32"]["to_own_detoast"]
    for form, bar in (("f16", 0.75), ("int8", 0.45), ("bit", 0.2)):
        yield f"SQL at T: {form} over f32", AT_MOST, bar, at_t[form]["to_f32"]


def _recall(results):
    bars = {"f16": 0.999, "int8": 0.995, "bit": 0.80, "bit, then exact on its best 100": 0.999}
    for way, bar in bars.items():
        yield f"recall@10: {way}", AT_LEAST, bar, results["recall"].get(way)
