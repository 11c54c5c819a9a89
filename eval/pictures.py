"""Pictures for reports: small SVGs as text, without scripts or links. Colours are classes that the page defines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

WIDTH = 720
LABELS = 150  # room for names on the left
MOST_BARS = 240
COLOURS = 6  # classes s0 ... s5, then from the first again
_LETTER = 7  # width of a letter, about


class Dot(NamedTuple):
    """A mean and its interval."""

    name: str
    mean: float
    low: float
    high: float


def intervals_svg(dots: Sequence[Dot], measure: str) -> str:
    """Returns means as dots and intervals as whiskers, a row each, on one axis."""
    if not dots:
        return ""
    row, top = 26, 8
    bottom = top + row * len(dots)
    axis = _Axis.around([value for dot in dots for value in (dot.low, dot.high)], LABELS, WIDTH - 20)
    parts = [_vertical_grid(axis, top, bottom)]
    for i, dot in enumerate(dots):
        y = top + row * (i + 0.5)
        low, mean, high = map(axis.at, (dot.low, dot.mean, dot.high))
        tip = f"{dot.name}: {dot.mean:.4f} ({dot.low:.4f} to {dot.high:.4f})"
        parts.append(
            f'<g class="s{i % COLOURS}"><title>{escape(tip)}</title>{_label(dot.name, y)}'
            f'<path class="line" d="M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 4:.1f}v8M{high:.1f} {y - 4:.1f}v8"/>'
            f'<circle cx="{mean:.1f}" cy="{y:.1f}" r="4.5"/></g>'
        )
    return _svg(bottom + 34, f"{measure}, means with 95 % intervals", "".join(parts))


def wins_svg(differences: Sequence[float], name: str) -> str:
    """Returns the queries' differences from the baseline as bars, the greatest win first; of many, evenly chosen ones.

    Queries without a difference take their room too, so that shares can be seen.
    """
    if not differences:
        return ""
    ordered = sorted(differences, reverse=True)
    if len(ordered) > MOST_BARS:
        ordered = [ordered[round(i * (len(ordered) - 1) / (MOST_BARS - 1))] for i in range(MOST_BARS)]
    height, left = 130, 46
    axis = _Axis.around([0.0, *ordered], height - 10, 10)
    step = (WIDTH - left - 10) / len(ordered)
    zero = axis.at(0.0)
    bars = [
        f'<rect class="{"win" if value > 0 else "loss"}" x="{left + i * step:.2f}" y="{min(zero, axis.at(value)):.2f}" '
        f'width="{max(step - 0.5, 0.4):.2f}" height="{abs(zero - axis.at(value)):.2f}"/>'
        for i, value in enumerate(ordered)
        if value
    ]
    parts = [_horizontal_grid(axis, left), *bars, f'<path class="axis" d="M{left} {zero:.1f}H{WIDTH - 10}"/>']
    return _svg(height, f"{name}: wins and losses by query", "".join(parts))


def curve_svg(sizes: Sequence[int], series: Mapping[str, Sequence[float]], measure: str) -> str:
    """Returns values against corpus size, a line each, sizes on a logarithmic axis."""
    values = [value for line in series.values() for value in line]
    if not sizes or not values:
        return ""
    height, left, right = 240, 56, WIDTH - 120
    across = _Axis.logarithmic(sizes, left, right)
    axis = _Axis.around(values, height - 34, 12)
    parts = [_horizontal_grid(axis, left, right)]
    for size in sizes:
        x = across.at(math.log10(size))
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 14}" text-anchor="middle">{size:,}</text>')
    ends = _apart([axis.at(line[-1]) for line in series.values()], 14)
    for i, (name, line) in enumerate(series.items()):
        points = [(across.at(math.log10(size)), axis.at(value)) for size, value in zip(sizes, line, strict=True)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points)
        text = f'<text class="name" x="{right + 10}" y="{ends[i] + 4:.1f}">{escape(name)}</text>'
        parts.append(f'<g class="s{i % COLOURS}"><path class="line" d="M{path}"/>{dots}{text}</g>')
    return _svg(height, f"{measure} against the number of documents", "".join(parts))


def reliability_svg(bins: Sequence[tuple[float, float, int]]) -> str:
    """Returns a reliability diagram: predicted against observed shares, on the diagonal where predictions hold.

    Args:
        bins: (mean of the predicted probabilities, observed share, count) of each; those without a count are left out.
    """
    shown = [each for each in bins if each[2] > 0]
    if not shown:
        return ""
    height, left, right, top = 320, 56, 336, 12
    bottom = height - 34
    across, axis = _Axis(0.0, 1.0, left, right), _Axis(0.0, 1.0, bottom, top)
    most = max(count for _, _, count in shown)
    parts = [_horizontal_grid(axis, left, right), _vertical_grid(across, top, bottom)]
    parts.append(f'<path class="axis" stroke-dasharray="4 4" d="M{left} {bottom}L{right} {top}"/>')
    for predicted, observed, count in shown:
        tip = f"predicted {predicted:.3f}, observed {observed:.3f}, {count:,}"
        parts.append(
            f'<g class="s0"><title>{tip}</title><circle cx="{across.at(predicted):.1f}" '
            f'cy="{axis.at(observed):.1f}" r="{3 + 7 * math.sqrt(count / most):.1f}"/></g>'
        )
    return _svg(height, "predicted against observed share", "".join(parts))


class _Axis(NamedTuple):
    """Numbers from low to high on pixels from start to end."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        """Returns an axis a little longer than the values."""
        low, high = min(values), max(values)
        margin = 0.06 * (high - low) or 0.01
        return cls(low - margin, high + margin, start, end)

    @classmethod
    def logarithmic(cls, sizes: Sequence[int], start: float, end: float) -> _Axis:
        """Returns an axis for the logarithms of sizes."""
        low, high = math.log10(min(sizes)), math.log10(max(sizes))
        return cls(low, high, start + 20, end - 20) if high > low else cls(low - 1, high + 1, start, end)

    def at(self, value: float) -> float:
        """Returns a value's pixel."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Returns about five round numbers."""
        raw = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(i * step, 10) for i in range(first, last + 1)]


def _vertical_grid(axis: _Axis, top: float, bottom: float) -> str:
    return "".join(
        f'<path class="grid" d="M{axis.at(tick):.1f} {top}V{bottom}"/>'
        f'<text class="tick" x="{axis.at(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>'
        for tick in axis.ticks()
    )


def _horizontal_grid(axis: _Axis, left: float, right: float = WIDTH - 10) -> str:
    return "".join(
        f'<path class="grid" d="M{left} {axis.at(tick):.1f}H{right}"/>'
        f'<text class="tick" x="{left - 8}" y="{axis.at(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in axis.ticks()
    )


def _label(name: str, y: float) -> str:
    most = LABELS // _LETTER - 2
    shown = name if len(name) <= most else name[: most - 1] + "…"
    return f'<text class="name" x="{LABELS - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(shown)}</text>'


def _apart(places: Sequence[float], least: float) -> list[float]:
    """Returns places moved down where they are nearer than `least`, so that texts can be read."""
    moved = list(places)
    order = sorted(range(len(places)), key=places.__getitem__)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    return moved


def _svg(height: float, about: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(about, quote=True)}">'
        f"<title>{escape(about)}</title>{body}</svg>"
    )
