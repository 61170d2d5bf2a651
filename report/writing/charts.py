"""Line charts as plain numbers: where points, ticks and labels of an SVG lie.  The templates draw them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 36
FEW = 30  # points of a line, each drawn: counted ones, such as epochs
MOST_POINTS = 200  # of a line; a curve of 5,000 steps has no more to show


@dataclass(frozen=True)
class Line:
    """A line: its name, the run that it is of, which of the colors and dashes that has, and its points, (x, y)."""

    name: str
    run: str
    style: int
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """A chart for a template: titles, ticks as (place, label), lines as (name, style, points of a polyline).

    `legend` names the run of each style, `rows` are line, x and y of its points.
    """

    title: str
    about: str
    across: str
    upward: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[tuple[str, int, str]]
    legend: list[tuple[str, int]]
    dots: bool
    rows: list[tuple[str, ...]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def drawn(title: str, about: str, across: str, upward: str, lines: Sequence[Line], form: str = "{:.1f}") -> Chart:
    """Return lines as a chart, with the numbers of each point in `rows`: line, x, y.  There is at least one point."""
    dots = max(len(line.points) for line in lines) <= FEW
    xs, ys = ([point[axis] for line in lines for point in line.points] for axis in (0, 1))
    x_ticks, y_ticks = ticks(min(xs), max(xs), 1 if dots else 0), ticks(min(ys), max(ys))
    x_low, x_high = min(x_ticks[0], *xs), max(x_ticks[-1], *xs)
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - x_low) / ((x_high - x_low) or 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y_low) / ((y_high - y_low) or 1), 1)

    kept = [(line, thinned(line.points)) for line in lines]
    return Chart(
        title, about, across, upward,
        [(x(value), f"{value:g}") for value in x_ticks],
        [(y(value), f"{value:g}") for value in y_ticks],
        [(line.name, line.style, " ".join(f"{x(a)},{y(b)}" for a, b in points)) for line, points in kept],
        list({line.style: (line.run, line.style) for line in lines}.values()),
        dots,
        [(line.name, f"{a:g}", form.format(b)) for line, points in kept for a, b in thinned(points, 20)],
    )  # fmt: skip


def ticks(low: float, high: float, least: float = 0) -> list[float]:
    """Return 2 to 7 round numbers that span low to high, at least so far apart."""
    span = max((high - low) or abs(high) or 1.0, 4 * least)
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= 5)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [round(step * n, 10) for n in range(first, last + 1)]


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most so many of the points, evenly taken, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(n * (len(points) - 1) / (most - 1))] for n in range(most)]
