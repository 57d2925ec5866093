"""Makes a Markdown table of requirements, goals and measurements from JSON results.

    python benches/peers/table.py OUT/results/*.json OUT/deberta/results/*.json OUT/bart/results/*.json

If two files have the same row, the later one counts. Measurements of `cargo bench` (selection, decomposition) are
given by hand: `--selection-ms 0.5 --decomposition-s 4.2`. `--scaling` prints that table instead. The last column
compares with PyTorch whose linear layers are computed by oneDNN, where measured: the harder opponent on processors
that MKL does not favour.
"""

import argparse
import json
import pathlib

AT_MOST, AT_LEAST = "≤", "≥"
ONEDNN = "PyTorch dense by oneDNN"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=pathlib.Path)
    parser.add_argument("--selection-ms", type=float)
    parser.add_argument("--decomposition-s", type=float)
    parser.add_argument("--scaling", action="store_true")
    return parser.parse_args()


class Results:
    """What was measured, by script."""

    def __init__(self, paths):
        self.forward, self.training, self.generation, self.scaling = {}, {}, {}, {}
        self.runs = []
        for path in paths:
            result = json.loads(path.read_text())
            rows = {row["contestant"]: row for row in result.get("rows", [])}
            kind = result["script"]
            self.runs.append((path, result))
            if kind == "peers":
                for shape in result["shapes"]:
                    at = (result["architecture"], shape["batch"], shape["length"])
                    by_name = {row["contestant"]: row for row in shape["rows"]}
                    (self.scaling if result["scaling"] else self.forward).setdefault(at, {}).update(by_name)
            elif kind == "training":
                self.training[result["batch"]] = rows
            elif kind == "generation":
                for shape in result["shapes"]:
                    by_name = {row["contestant"]: row for row in shape["rows"]}
                    self.generation[shape["shape"], shape["cache"]] = by_name

    def ratio(self, architecture, batch, name, to="PyTorch dense", length=128):
        """How much faster than another contestant, by medians; None if not measured."""
        rows = self.forward.get((architecture, batch, length), {})
        if name not in rows or to not in rows:
            return None
        return rows[name]["speed"] / rows[to]["speed"]

    def trained(self, name, key="ms"):
        return self.training.get(16, {}).get(name, {}).get(key)


def over(a, b):
    return None if a is None or not b else a / b


def inverse(value):
    return None if value is None else 1 / value


def lines(results, args):
    """(what, sense, must, goal, measured, unit, measured against PyTorch by oneDNN)"""
    made = []

    def row(what, sense, must, goal, value, unit="×", onednn=None):
        made.append((what, sense, must, goal, value, unit, onednn))

    def against_pytorch(what, sense, must, goal, architecture, batch, name):
        values = [results.ratio(architecture, batch, name, to) for to in ("PyTorch dense", ONEDNN)]
        values = [inverse(value) for value in values] if sense == AT_MOST else values
        row(what, sense, must, goal, values[0], onednn=values[1])

    for batch, must in ((1, 1.15), (8, 1.25), (32, 1.25)):
        against_pytorch(f"dense BERT-base, batch {batch}: time over PyTorch's", AT_MOST, must, 1.0,
                        "bert", batch, "ours, dense")
    for percent, musts, goals in (
        (20, (4.2, 3.5, 3.3), (5.5, 4.5, 4.2)), (10, (6, 5.2, 5), (8, 7, 6.5))):
        for batch, must, goal in zip((1, 8, 32), musts, goals):
            against_pytorch(f"{percent}% compact against PyTorch dense, batch {batch}", AT_LEAST, must,
                            goal, "bert", batch, f"ours, {percent}%")
    row("10% compact against ONNX Runtime int8 dense, batch 1", AT_LEAST, 1.7, 2.3,
        results.ratio("bert", 1, "ours, 10%", "ONNX Runtime int8"))
    for batch, must, goal in ((1, 0.75, 0.6), (32, 0.95, 0.8)):
        against_pytorch(f"dense DeBERTa-v3-base, batch {batch}: time over PyTorch's", AT_MOST, must,
                        goal, "deberta", batch, "ours, dense")
    for batch, must, goal in ((1, 6, 9), (32, 5, 7)):
        against_pytorch(f"DeBERTa-v3-base, 10%, batch {batch}", AT_LEAST, must, goal,
                        "deberta", batch, "ours, 10%")
    for shape in ("1x6", "8x6"):
        rows = results.generation.get((shape, "cached"), {})
        for form, must, goal in (("dense", 1.0, 1.3), ("30%", 1.8, 2.5)):
            value = rows.get(f"ours, {form}", {}).get("speed")
            row(f"BART-base, {shape}, tokens a second over PyTorch's: {form}", AT_LEAST, must, goal, value)
    allowed, pruner = results.trained("ours, regrowth allowed"), "published form with its pruner"
    row("training step, regrowth allowed: time over the published form's with pruner", AT_MOST, 1.0,
        over(results.trained("published form, no pruner"), results.trained(pruner)),
        over(allowed, results.trained(pruner)))
    row("training step at 10%, frozen: faster than the published form", AT_LEAST, 3.5, 5.0,
        over(results.trained(pruner), results.trained("ours, frozen")))
    updates = [results.trained(f"ours, {form}", "update_ms") for form in ("regrowth allowed", "dense")]
    if None not in updates:
        row("importance, selection and masks: share of a step", AT_MOST, 3.0, 1.0,
            100 * (updates[0] - updates[1]) / allowed, "%")
    row("selection of 82,944 neurons", AT_MOST, 10.0, None, args.selection_ms, " ms")
    row("decomposition of 72 matrices", AT_MOST, 10.0, 4.0, args.decomposition_s, " s")
    row("peak memory of a training step at batch 16 over PyTorch's", AT_MOST, 1.0, None,
        over(results.trained("ours, regrowth allowed", "memory_mb"), results.trained(pruner, "memory_mb")))
    for percent in (20, 10):
        served = results.forward.get(("bert", 1, 128), {}).get(f"ours, {percent}%")
        if served and served.get("file_mb"):
            row(f"peak memory serving {percent}% at batch 1", AT_MOST, 1.3 * served["file_mb"] + 50,
                None, served["memory_mb"], " MB")
    return made


def shown(value, unit):
    if value is None:
        return "–"
    number = f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")
    return f"×{number}" if unit == "×" else f"{number}{unit}"


def verdict(sense, must, goal, value):
    if value is None:
        return "not measured"

    def met(bound):
        return value <= bound if sense == AT_MOST else value >= bound

    if not met(must):
        return "**no**"
    return "yes" if goal is None else "goal" if met(goal) else "must"


def table(results, args):
    print("| what | must | goal | measured | met | by oneDNN |")
    print("|---|---:|---:|---:|---|---:|")
    for what, sense, must, goal, value, unit, onednn in lines(results, args):
        aim = f"{sense} {shown(goal, unit)}" if goal is not None else ""
        print(f"| {what} | {sense} {shown(must, unit)} | {aim} | {shown(value, unit)} "
              f"| {verdict(sense, must, goal, value)} | {shown(onednn, unit) if onednn else ''} |")


def scaling(results):
    print("| batch × length | PyTorch dense, ms | ours, dense | ours, 20% | ours, 10% |")
    print("|---|---:|---:|---:|---:|")
    for (_, batch, length), rows in sorted(results.scaling.items(), key=lambda item: item[0][1:]):
        speeds = [f"×{rows[f'ours, {form}']['speed']:.2f}" for form in ("dense", "20%", "10%")]
        print(f"| {batch} × {length} | {rows['PyTorch dense']['ms']:.1f} | " + " | ".join(speeds) + " |")


def main():
    args = arguments()
    results = Results(args.results)
    if args.scaling:
        scaling(results)
    else:
        table(results, args)
    print()
    for path, result in results.runs:
        machine = result["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        print(f"- {path.name}: {machine['date']}, {machine['processor']}, {result['threads']} threads, "
              f"{result['rounds']} rounds, load {machine['load'][0]}; {versions}")


if __name__ == "__main__":
    main()
