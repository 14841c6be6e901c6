"""Summaries in words: the table on the terminal and the plan before it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from skelfew.reproduce.summary import MODES, Comparison, Line, Summary
from skelfew.reproduce.tables import Table
from skelfew.reproduce.units import Request, Work
from skelfew.statistics import Estimate


def percent(estimate: Estimate) -> str:
    """Return ``71.2 [68.0, 74.4]``."""
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def columns(summary: Summary) -> list[tuple[str, str]]:
    """Return the (shots, mode) that any row has, fixed exemplars first."""
    places = {place for line in summary.lines for place in line.cells}
    return sorted(places, key=lambda p: (int(p[0]), MODES.index(p[1])))


def heading(place: tuple[str, str]) -> str:
    """Return the heading of a column."""
    shots, mode = place
    return f"{shots}-shot, {'protocol exemplars' if mode == 'exemplars' else 'random exemplars'}"


def cells_of(line: Line, places: Sequence[tuple[str, str]]) -> list[str]:
    """Return the cells of a row, "-" where nothing was measured."""
    return [percent(line.cells[p].estimate) if p in line.cells else "-" for p in places]


def remarks(line: Line) -> str:
    """Return what stands behind a row: seeds, failures, why it is absent."""
    if line.absent:
        return line.absent
    counts = {cell.estimate.count for cell in line.cells.values()}
    parts = [f"n = {max(counts)}"] if counts else []
    parts += [f"{count} {what}" for what, count in line.failed.items()]
    return ", ".join(parts) or "not run yet"


def sentence(comparison: Comparison, labels: dict[str, str]) -> str:
    """Return a contrast in plain words."""
    d = comparison.difference
    mode = "protocol exemplars" if comparison.mode == "exemplars" else "random exemplars"
    text = f"{labels[comparison.a]} against {labels[comparison.b]}, {comparison.shots}-shot, {mode}"
    text += f": {100 * d.value:+.1f} points"
    unit = d.of if d.count != 1 else d.of.removesuffix("s")
    if d.low is None or d.high is None:
        return f"{text}, {d.count} {unit}: not resolved (one pair has no interval)"
    text += f" [{100 * d.low:+.1f}, {100 * d.high:+.1f}], n = {d.count} paired {unit}: "
    return text + ("resolved" if comparison.resolved else "not resolved")


def terminal(table: Table, summary: Summary) -> str:
    """Return a summary as plain text."""
    places = columns(summary)
    quoted = sorted({shots for line in summary.lines for shots in line.quoted}, key=int)
    head = ["row", *map(heading, places), *(f"quoted {q}-shot" for q in quoted), ""]
    body = [
        [
            line.row.label,
            *cells_of(line, places),
            *(f"{line.quoted[q]:.1f}" if q in line.quoted else "" for q in quoted),
            remarks(line),
        ]
        for line in summary.lines
    ]
    text = grid([head, *body])
    if summary.chance is not None:
        text += f"\nchance {100 * summary.chance:.1f} %"
    text += f"; accuracy in percent on the {summary.classes} classes, "
    text += f"mean [95 % interval] over {summary.over}\n"
    labels = {row.key: row.label for row in table.rows}
    for comparison in summary.comparisons:
        text += f"\n{sentence(comparison, labels)}"
    return text


def grid(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as aligned text."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def summary_document(request: Request, work: Work, summary: Summary) -> dict[str, Any]:
    """Return a summary as plain values for JSON."""
    return {
        "format": "skelfew-table",
        "format_version": 1,
        "table": request.table.id,
        "dataset": request.dataset,
        "protocol": work.protocol,
        "budget": request.budget,
        "over": summary.over,
        "classes": summary.classes,
        "chance": summary.chance,
        "rows": [
            {
                "key": line.row.key,
                "label": line.row.label,
                "classifier": line.row.classifier,
                "clips": dict(line.samples),
                "results": [
                    {
                        "shots": int(shots),
                        "mode": mode,
                        **asdict(cell.estimate),
                        "values": dict(cell.values),
                    }
                    for (shots, mode), cell in line.cells.items()
                ],
                "quoted_percent": dict(line.quoted),
                "failed": dict(line.failed),
                "absent": line.absent,
            }
            for line in summary.lines
        ],
        "contrasts": [
            {
                "a": c.a,
                "b": c.b,
                "says": c.says,
                "shots": int(c.shots),
                "mode": c.mode,
                **asdict(c.difference),
                "resolved": c.resolved,
            }
            for c in summary.comparisons
        ],
    }
