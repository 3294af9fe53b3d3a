"""Draw bars and lines as SVG, by hand: no library draws four plain charts with less."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

__all__ = ["bars", "lines"]

COLOURS: Final = {"pymongo": "#2f6db3", "motor": "#d08a2e"}
LEFT: Final = 400
WIDTH: Final = 420
RIGHT: Final = 90
ROW: Final = 34
BAR: Final = 12
TOP: Final = 64
FONT: Final = "font-family='system-ui, sans-serif'"


def bars(title: str, figures: Mapping[str, Mapping[str, float]], *, base: float, aim: float) -> str:
    """Return a chart of horizontal bars.

    Parameters
    ----------
    title
        What stands above it.
    figures
        The figures of each row, by driver.
    base
        Where bars begin: 1 for a ratio, 0 for a time.
    aim
        Where a dashed line stands.
    """
    values = [value for row in figures.values() for value in row.values()]
    most = sorted(values)[max(0, int(len(values) * 0.9) - 1)]  # a bar that is longer is cut
    end = max(most, base + 2 * (aim - base))

    def x(value: float) -> float:
        return LEFT + (min(max(value, base), end) - base) / (end - base) * WIDTH

    height = TOP + ROW * len(figures) + 24
    total = LEFT + WIDTH + RIGHT
    size = f"viewBox='0 0 {total} {height}' width='{total}' height='{height}'"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img' aria-label='{escape(title)}'>",
        f"<rect width='{total}' height='{height}' fill='#ffffff'/>",
        f"<text x='16' y='26' {FONT} font-size='16' font-weight='600'>{escape(title)}</text>",
    ]
    at = 16
    for driver, colour in COLOURS.items():
        parts.append(f"<rect x='{at}' y='38' width='12' height='12' fill='{colour}'/>")
        parts.append(f"<text x='{at + 18}' y='49' {FONT} font-size='13'>{driver}</text>")
        at += 90
    for number, (name, row) in enumerate(figures.items()):
        y = TOP + ROW * number
        parts.append(
            f"<text x='{LEFT - 10}' y='{y + 17}' {FONT} font-size='13' text-anchor='end'>"
            f"{escape(name)}</text>"
        )
        for which, (driver, value) in enumerate(sorted(row.items(), reverse=True)):
            top = y + which * (BAR + 1)
            width = max(1.0, x(value) - LEFT)
            text = f"{value:.2f}" if base else f"{value:+,.0f}"
            text += " (cut)" if value > end else ""
            parts.append(
                f"<rect x='{LEFT}' y='{top}' width='{width:.1f}' height='{BAR}' "
                f"fill='{COLOURS[driver]}'/>"
            )
            parts.append(
                f"<text x='{LEFT + width + 5:.1f}' y='{top + 10}' {FONT} font-size='11'>"
                f"{text}</text>"
            )
    bottom = height - 20
    parts.append(
        f"<line x1='{LEFT}' y1='{TOP - 6}' x2='{LEFT}' y2='{bottom}' stroke='#444444'/>"
        f"<line x1='{x(aim):.1f}' y1='{TOP - 6}' x2='{x(aim):.1f}' y2='{bottom}' "
        "stroke='#a02020' stroke-dasharray='4 3'/>"
        f"<text x='{x(aim):.1f}' y='{bottom + 14}' {FONT} font-size='11' fill='#a02020' "
        f"text-anchor='middle'>aim {aim:g}</text>"
    )
    parts.append("</svg>\n")
    return "\n".join(parts)


PALETTE: Final = ("#2f6db3", "#d08a2e", "#777777", "#3c8d5a", "#8a4fa3")

LEGENDS: Final = 3
"""In a row."""


def lines(
    title: str,
    series: Mapping[str, Mapping[int, float]],
    unit: str,
    marks: Mapping[int, str] | None = None,
) -> str:
    """Return a chart of lines, both axes from 0.

    Parameters
    ----------
    title
        What stands above it.
    series
        The figures of each line, by the number of apps or whatever else.
    unit
        What the figures are in.
    marks
        What stands below the chart, by where. Without any that is each number, which has a dot.
    """
    left, top, width, height = 70, 64 + 20 * ((len(series) - 1) // LEGENDS), 620, 280
    widest = max(apps for line in series.values() for apps in line)
    highest = max(value for line in series.values() for value in line.values()) or 1.0

    def at(apps: float, value: float) -> tuple[float, float]:
        return left + apps / widest * width, top + height - value / highest * height

    total = f"{left + width + 40} {top + height + 40}"
    parts = [
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {total}' role='img' "
            f"aria-label='{escape(title)}'>"
        ),
        f"<rect width='{left + width + 40}' height='{top + height + 40}' fill='#ffffff'/>",
        f"<text x='16' y='26' {FONT} font-size='16' font-weight='600'>{escape(title)}</text>",
    ]
    for quarter in range(5):
        _, y = at(0, highest * quarter / 4)
        parts.append(
            f"<line x1='{left}' y1='{y:.1f}' x2='{left + width}' y2='{y:.1f}' stroke='#dddddd'/>"
            f"<text x='{left - 8}' y='{y + 4:.1f}' {FONT} font-size='11' text-anchor='end'>"
            f"{highest * quarter / 4:,.0f} {unit}</text>"
        )
    numbers = sorted({apps for line in series.values() for apps in line})
    for apps, text in (marks or {apps: f"{apps:,}" for apps in numbers}).items():
        x, y = at(apps, 0)
        parts.append(
            f"<text x='{x:.1f}' y='{y + 18:.1f}' {FONT} font-size='11' text-anchor='middle'>"
            f"{text}</text>"
        )
    for number, (name, line) in enumerate(series.items()):
        colour = PALETTE[number % len(PALETTE)]
        points = [at(apps, value) for apps, value in sorted(line.items())]
        column, row = number % LEGENDS, number // LEGENDS
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(
            f"<polyline points='{drawn}' fill='none' stroke='{colour}' stroke-width='2'/>"
            f"<rect x='{16 + 190 * column}' y='{38 + 20 * row}' width='12' height='12' "
            f"fill='{colour}'/><text x='{34 + 190 * column}' y='{49 + 20 * row}' {FONT} "
            f"font-size='13'>{escape(name)}</text>"
        )
        dots = () if marks else points
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in dots]
    parts.append("</svg>\n")
    return "\n".join(parts)
