#!/usr/bin/env python3
"""Draws benches/scale.svg and the table in benches/README.md from what criterion measured (`cargo bench --bench scale`).

Usage: plot-scale.py CRITERION_FOLDER BENCHES_FOLDER. Python's standard library only.
"""

import json
import math
import pathlib
import sys

SERIES = [
    ("whole", "Cedar over everything", "#c2541b"),
    ("decision", "a whole decision, with slices", "#2f7fb8"),
    ("sliced", "its judgement alone, with slices", "#3c9a5f"),
]
AXES = [
    ("policies", [10, 100, 1000, 10_000], "policies (100 entities)"),
    ("entities", [100, 1000, 10_000, 100_000], "entities (10 policies)"),
]
WIDTH, HEIGHT, LEFT, TOP, PANEL, TALL = 980, 420, 70, 60, 300, 290
LOW = 1.0  # microseconds


def highest(points):
    """The next power of ten above everything that was measured, so that nothing falls off the plot."""
    return 10.0 ** math.ceil(math.log10(max(points.values())))


def measured(folder):
    """Microseconds by axis, series and size: the tenth of criterion's samples that was quickest. What else the machine does
    can only make a sample longer."""
    points = {}
    for axis, sizes, _ in AXES:
        for series, _, _ in SERIES:
            for size in sizes:
                # Criterion writes the slashes of a name as underscores.
                file = folder / f"{axis}_{series}_{size}" / "new" / "sample.json"
                sample = json.loads(file.read_text())
                each = sorted(time / count for time, count in zip(sample["times"], sample["iters"]))
                points[axis, series, size] = each[len(each) // 10] / 1000
    return points


def spell(micros):
    if micros >= 1_000_000:
        return f"{micros / 1_000_000:.3g} s"
    if micros >= 1000:
        return f"{micros / 1000:.3g} ms"
    return f"{micros:.3g} us"


def thousands(number):
    return f"{number:,}"


def svg(points):
    high = highest(points)
    labels = []

    def y(value):
        share = math.log10(value / LOW) / math.log10(high / LOW)
        return TOP + TALL * (1 - share)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img" '
        'aria-label="Time a decision takes against the number of policies and of entities">',
        "<style>text{fill:#1f2328}.quiet{fill:#59636e}.grid{stroke:#d1d9e0}"
        "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.quiet{fill:#9198a1}.grid{stroke:#3d444d}}</style>",
        f'<text x="{LEFT}" y="24" font-size="15">Time for one request, both axes logarithmic</text>',
    ]
    for number, (axis, sizes, title) in enumerate(AXES):
        left = LEFT + number * (PANEL + 60)

        def x(size, left=left, sizes=sizes):
            share = math.log10(size / sizes[0]) / math.log10(sizes[-1] / sizes[0])
            return left + PANEL * share

        value = LOW
        while value <= high:
            out.append(
                f'<line class="grid" x1="{left}" x2="{left + PANEL}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            )
            if number == 0:
                out.append(
                    f'<text class="quiet" x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{spell(value)}</text>'
                )
            value *= 10
        for size in sizes:
            out.append(
                f'<text class="quiet" x="{x(size):.1f}" y="{TOP + TALL + 20}" text-anchor="middle">{thousands(size)}</text>'
            )
        out.append(
            f'<text class="quiet" x="{left + PANEL / 2}" y="{TOP + TALL + 42}" text-anchor="middle">{title}</text>'
        )
        for series, label, colour in SERIES:
            places = [(x(size), y(points[axis, series, size])) for size in sizes]
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in places]
            if number == len(AXES) - 1:
                px, py = places[-1]
                labels.append((py, px, colour, label))
    lowest = 0.0
    for py, px, colour, label in sorted(labels):
        # Lines may end close to one another; their labels keep a line's height apart.
        lowest = max(py + 4, lowest + 16)
        out.append(f'<text x="{px + 10:.1f}" y="{lowest:.1f}" style="fill:{colour}">{label}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def table(points):
    lines = ["| | whole decision, with slices | judgement alone, with slices | Cedar over everything |", "|---|---|---|---|"]
    for axis, sizes, _ in AXES:
        for size in sizes:
            cells = [spell(points[axis, series, size]) for series in ("decision", "sliced", "whole")]
            lines.append(f"| {thousands(size)} {axis} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    criterion, benches = map(pathlib.Path, sys.argv[1:3])
    points = measured(criterion)
    (benches / "scale.svg").write_text(svg(points))
    readme = benches / "README.md"
    begin, end = "<!-- scale: written by scripts/plot-scale.py -->", "<!-- /scale -->"
    head, rest = readme.read_text().split(begin, 1)
    _, tail = rest.split(end, 1)
    readme.write_text(f"{head}{begin}\n\n{table(points)}\n\n{end}{tail}")


if __name__ == "__main__":
    main()
