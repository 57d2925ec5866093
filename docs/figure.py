"""Draws docs/quality-latency.svg from recorded measurements: python3 docs/figure.py

Quality and speed of compressed models come from models/studies/results, times of other programs and of 8-bit
integers from the second BERT-base table of benches/RESULTS.md.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# F1 of MiniLM-L6 on MRPC, dense, in f32 and int8: models/RESULTS.md, "8-bit integers".
INT8_LOSS = 88.05 - 87.86
BLUE, ORANGE, RED, GREY, INK = "#1f5fbf", "#c8640a", "#b3202c", "#8a8f98", "#24292f"


def study(name, metric, primary):
    """{(method, ratio): (speed over dense, quality)} at the rate that is best by `primary`."""
    best = {}
    for path in sorted((ROOT / "models/studies/results" / name).glob("*/report.json")):
        report = json.loads(path.read_text())
        method = re.search(r"-(dense|losparse|itp|low-rank)-", path.parent.name)[1]
        ratio = report["method"]["ratio"] if report["method"] else 1.0
        values = (report["compacted"] or report["trained"])[0]["metrics"]["values"]
        speed = report["latency"]["contestants"][-1]["speedup"]
        entry = (values[primary], 1.0 if method == "dense" else speed, 100 * values[metric])
        best[method, ratio] = max(best.get((method, ratio), entry), entry)
    return {key: entry[1:] for key, entry in best.items()}


def peers():
    """{contestant: ms at batch 1} of BERT-base."""
    text = (ROOT / "benches/RESULTS.md").read_text()
    text = text[text.index("\n## 8-bit integers"):]
    table = text[text.index("| BERT-base, ms |"):].split("\n\n")[0]
    rows = [line.split("|") for line in table.splitlines()[2:]]
    return {row[1].strip(): float(row[2]) for row in rows}


class Svg:
    def __init__(self, width, height):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">',
            f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>',
        ]

    def add(self, part):
        self.parts.append(part)

    def text(self, x, y, words, anchor="start", colour=INK, size=12, weight="normal"):
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
                 f'font-size="{size}" font-weight="{weight}">{words}</text>')

    def line(self, points, colour, dash="", width=1.0):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.add(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
                 f'stroke-dasharray="{dash}"/>')

    def marker(self, x, y, shape, colour, filled):
        style = f'fill="{colour if filled else "#fff"}" stroke="{colour}" stroke-width="1.8"'
        if shape == "circle":
            self.add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" {style}/>')
        else:
            turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if shape == "diamond" else ""
            self.add(f'<rect x="{x - 4.2:.1f}" y="{y - 4.2:.1f}" width="8.4" height="8.4" {style}{turn}/>')


def quality_panel(svg, dense_ms, int8_ms):
    left, top, width, height = 62, 62, 440, 300
    x = lambda speed: left + (speed - 1) / 5.6 * width
    y = lambda loss: top + (loss + 0.8) / 14.3 * height
    svg.text(left - 44, 24, "Quality against speed", size=15, weight="bold")
    svg.text(left - 44, 43, "points lost against the fine-tuned dense model; higher and further right is better", colour=GREY)
    for loss in range(0, 14, 2):
        svg.line([(left, y(loss)), (left + width, y(loss))], "#e6e8eb")
        svg.text(left - 8, y(loss) + 4, f"−{loss}" if loss else "0", "end")
    for speed in range(1, 7):
        svg.text(x(speed), top + height + 18, f"×{speed}", "middle")
    svg.text(left + width / 2, top + height + 37,
             "speed over the dense f32 model in losparse, one example of 128 tokens", "middle")
    series = [
        ("mrpc-minilm", "f1", "accuracy", BLUE, "circle", "MiniLM-L6, MRPC, F1"),
        ("stsb-xsmall", "pearson", "pearson", ORANGE, "square", "DeBERTa-v3-xsmall, STS-B, Pearson"),
    ]
    for at, (name, metric, primary, colour, shape, label) in enumerate(series):
        cells = study(name, metric, primary)
        dense = cells["dense", 1.0][1]
        for method, filled, dash in [("itp", False, "4 3"), ("losparse", True, "")]:
            points = [(*cells[method, ratio], ratio) for ratio in (0.2, 0.1, 0.05)]
            line = [(x(1), y(0))] + [(x(speed), y(dense - value)) for speed, value, _ in points]
            svg.line(line, colour, dash, 1.8 if filled else 1.2)
            for speed, value, ratio in points:
                svg.marker(x(speed), y(dense - value), shape, colour, filled)
                if filled:
                    svg.text(x(speed) - 9, y(dense - value) + 13, f"{100 * ratio:.0f}%", "end", colour, 11)
                print(f"{name} {method} {ratio}: ×{speed:.2f}, −{dense - value:.2f}")
        model, task = label.split(", ", 1)
        row = top + 212 + 42 * at
        svg.marker(322, row - 4, shape, colour, True)
        svg.text(336, row, f"LoSparse, {model}", colour=colour, size=11)
        svg.text(336, row + 14, f"{task} (hollow: ITP)", colour=colour, size=11)
    svg.marker(x(1), y(0), "circle", INK, True)
    svg.text(x(1) + 9, y(0) - 5, "dense f32")
    speed = dense_ms / int8_ms
    svg.marker(x(speed), y(INT8_LOSS), "diamond", RED, False)
    svg.text(x(speed) + 11, y(INT8_LOSS) + 4, "dense int8 in losparse*", colour=RED)
    print(f"int8: ×{speed:.2f}, −{INT8_LOSS:.2f}")


def speed_panel(svg, times):
    left, top = 560, 62
    rows = [
        ("PyTorch dense", "PyTorch, dense", GREY),
        ("OpenVINO fp32", "OpenVINO, dense", GREY),
        ("ONNX Runtime int8", "ONNX Runtime, dense int8", GREY),
        ("OpenVINO int8", "OpenVINO, dense int8", GREY),
        ("ours, dense", "losparse, dense", BLUE),
        ("ours, dense in int8", "losparse, dense int8", RED),
        ("ours, 20%", "losparse, 20%", BLUE),
        ("ours, 20% in int8", "losparse, 20% in int8", RED),
        ("ours, 10% in int8", "losparse, 10% in int8", RED),
    ]
    svg.text(left, 24, "Time of one example", size=15, weight="bold")
    svg.text(left, 43, "BERT-base shape, 128 tokens, two cores, ms", colour=GREY)
    for at, (name, label, colour) in enumerate(rows):
        y = top + 37 * at
        width = times[name] / times["PyTorch dense"] * 300
        svg.text(left, y + 10, label, size=11)
        svg.add(f'<rect x="{left}" y="{y + 14}" width="{width:.1f}" height="13" fill="{colour}"/>')
        svg.text(left + width + 6, y + 25, f"{times[name]:.1f}", size=11, weight="bold")


def main():
    svg = Svg(930, 440)
    times = peers()
    quality_panel(svg, times["ours, dense"], times["ours, dense in int8"])
    speed_panel(svg, times)
    svg.text(18, 427, "* time of BERT-base: right panel; quality of MiniLM-L6 on MRPC. Compressed models: one seed, f32, "
             "one core.", colour=GREY, size=11)
    (ROOT / "docs/quality-latency.svg").write_text("\n".join(svg.parts) + "\n</svg>\n")


main()
