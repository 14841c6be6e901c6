"""Small charts as SVG, each with words for those who do not see it and a table of its numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from skelfew.evaluation.statistics import Estimate
from skelfew.io.files import Values
from skelfew.report.markup import Safe, percent, table, tag

_WIDTH, _HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 26
_MANY = 40  # points of a curve, above which they are not marked one by one
# A chart each: its title, the columns of metrics.jsonl in it with their names, and the unit.
_CHARTS: tuple[tuple[str, dict[str, str], float, str], ...] = (
    ("Loss", {"loss": "training"}, 1, ""),
    ("Accuracy", {"accuracy": "training", "validation_accuracy": "validation classes"}, 100, " %"),
    (
        "Spread of the features",
        {"prediction_spread": "prediction", "target_spread": "target"},
        1,
        "",
    ),
    ("Effective rank", {"prediction_rank": "prediction", "target_rank": "target"}, 1, ""),
    ("Learning rate", {"lr": "learning rate"}, 1, ""),
)

Points = Sequence[tuple[float, float]]


def curves(rows: Sequence[Values]) -> list[Safe]:
    """Return the charts of one stage from its rows of metrics.jsonl."""
    charts = []
    for title, columns, factor, unit in _CHARTS:
        series = {}
        for column, name in columns.items():
            points: list[tuple[Any, Any]] = [(row.get("epoch"), row.get(column)) for row in rows]
            finite = [(float(x), factor * float(y)) for x, y in points if _finite(x) and _finite(y)]
            if finite:
                series[name] = finite
        if series:
            charts.append(line_chart(title, series, "epoch", unit))
    return charts


def _finite(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def line_chart(title: str, series: Mapping[str, Points], over: str, unit: str = "") -> Safe:
    """Return a figure with a line for each series: its points (x, y) by its name, at least one."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    marks = ticks(min(ys), max(ys))
    low, high = min(marks[0], *ys), max(marks[-1], *ys)
    first, last = min(xs), max(xs)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (y - low) / (high - low)
        return (
            round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    drawn: list[Safe] = []
    for mark in marks:
        _, y = place(first, mark)
        drawn.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        text = short(mark)
        drawn.append(tag("text", text, x=_LEFT - 6, y=y + 4, text_anchor="end"))
    for x in sorted({first, last}):
        at, _ = place(x, low)
        anchor = "middle" if first == last else "start" if x == first else "end"
        drawn.append(tag("text", short(x), x=at, y=_HEIGHT - 8, text_anchor=anchor))
    drawn.append(tag("text", over, x=(_LEFT + _WIDTH) / 2, y=_HEIGHT - 8, text_anchor="middle"))
    for number, points in enumerate(series.values()):
        placed = [place(x, y) for x, y in points]
        path = " ".join(f"{x},{y}" for x, y in placed)
        drawn.append(tag("polyline", points=path, class_=f"line line{number}"))
        dots = placed if len(placed) <= _MANY else placed[-1:]
        drawn += [tag("circle", cx=x, cy=y, r=2.5, class_=f"dot line{number}") for x, y in dots]
    says = "; ".join(
        f"{name}: from {short(points[0][1])}{unit} to {short(points[-1][1])}{unit}"
        for name, points in series.items()
    )
    svg = tag(
        "svg",
        tag("title", f"{title} by {over}"),
        tag("desc", says),
        drawn,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{title} by {over}. {says}",
    )
    legend = [
        tag("span", tag("i", class_=f"key line{number}"), f"{name}: {short(points[-1][1])}{unit}")
        for number, (name, points) in enumerate(series.items())
    ]
    return tag(
        "figure", tag("figcaption", tag("b", title), tag("span", legend, class_="legend")), svg
    )


def ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers from at or below ``low`` to at or above ``high``."""
    if high <= low:
        half = abs(low) / 2 or 0.5
        low, high = low - half, high + half
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if (high - low) / (f * power) <= 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def short(value: float) -> str:
    """Return a number in four digits at most, without needless zeros."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def scale(estimate: Estimate, chance: float, quoted: Sequence[float] = ()) -> Safe:
    """Return an accuracy with its interval, chance and quoted ones on a line from 0 to 100 %."""

    def at(value: float) -> str:
        return f"left:{100 * min(max(value, 0.0), 1.0):.2f}%"

    parts = [tag("i", class_="chance", style=at(chance))]
    says = [str(estimate), f"chance {percent(chance)} %"]
    if estimate.low is not None and estimate.high is not None:
        low, high = max(estimate.low, 0.0), min(estimate.high, 1.0)
        width = f"{at(low)};width:{100 * (high - low):.2f}%"
        parts.append(tag("i", class_="interval", style=width))
    parts.append(tag("i", class_="value", style=at(estimate.value)))
    for value in dict.fromkeys(quoted):
        parts.append(tag("i", class_="quoted", style=at(value)))
        says.append(f"quoted {percent(value)} %")
    return tag("div", parts, class_="scale", role="img", aria_label=", ".join(says))


def metrics_table(rows: Sequence[Values]) -> Safe:
    """Return rows of metrics.jsonl as a table."""
    columns = [c for c in dict.fromkeys(key for row in rows for key in row) if c != "stage"]
    body = [[tag("td", _cell(row.get(c)), class_="number") for c in columns] for row in rows]
    return table([column.replace("_", " ") for column in columns], body)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
