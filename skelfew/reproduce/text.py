"""Summaries in words: the table on the terminal and the plan before it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from skelfew.evaluation.statistics import Estimate
from skelfew.io.files import Document
from skelfew.reproduce.quotes import PaperNumber
from skelfew.reproduce.rows import Table
from skelfew.reproduce.summary import MODES, Comparison, Line, TableSummary
from skelfew.reproduce.units import Request, Work


def percent(estimate: Estimate) -> str:
    """Return ``71.2 [68.0, 74.4]``."""
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def columns(summary: TableSummary) -> list[tuple[str, str]]:
    """Return the (shots, mode) that any row has, fixed exemplars first."""
    places = {place for line in summary.lines for place in line.cells}
    return sorted(places, key=lambda p: (int(p[0]), MODES.index(p[1])))


_MODE = {"exemplars": "protocol exemplars", "draws": "random exemplars", "texts": "class texts",
         "validation": "validation classes"}  # fmt: skip


def heading(place: tuple[str, str]) -> str:
    """Return the heading of a column."""
    shots, mode = place
    return f"{shots}-shot, {_MODE[mode]}"


def cells_of(line: Line, places: Sequence[tuple[str, str]]) -> list[str]:
    """Return the cells of a row, "-" where nothing was measured."""
    return [percent(line.cells[p].estimate) if p in line.cells else "-" for p in places]


def remarks(line: Line) -> str:
    """Return the note of a row: seeds, failures, why it is absent."""
    if line.absent:
        return line.absent
    counts = {cell.estimate.count for cell in line.cells.values()}
    parts = [f"n = {max(counts)}"] if counts else []
    parts += [f"{count} {what}" for what, count in line.failed.items()]
    parts += [line.note] if parts and line.note else []
    return ", ".join(parts) or "not run yet"


def difference(comparison: Comparison) -> str:
    """Return ``+4.4 [-3.6, +12.4] not resolved``."""
    d = comparison.difference
    text = f"{100 * d.value:+.1f}"
    if d.low is None or d.high is None:
        return f"{text} (one pair)"
    text += f" [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
    return f"{text} {'resolved' if comparison.resolved else 'not resolved'}"


def contrast_rows(table: Table, summary: TableSummary) -> list[list[str]]:
    """Return contrasts as a table, its head first: a row each, a column a place."""
    labels = {row.key: row.label for row in table.rows}
    places = sorted(
        {(c.shots, c.mode) for c in summary.comparisons},
        key=lambda p: (int(p[0]), MODES.index(p[1])),
    )
    rows: dict[tuple[str, str], dict[tuple[str, str], Comparison]] = {}
    for c in summary.comparisons:
        rows.setdefault((c.a, c.b), {})[c.shots, c.mode] = c
    body = []
    for (a, b), cells in rows.items():
        first = next(iter(cells.values()))
        says = f" ({first.says})" if first.says else ""
        found = (difference(cells[p]) if p in cells else "" for p in places)
        body.append([f"{labels[a]} − {labels[b]}{says}", *found, str(first.difference.count)])
    return [["", *map(heading, places), f"paired {summary.over}"], *body]


def terminal(table: Table, summary: TableSummary) -> str:
    """Return a summary as plain text."""
    if not summary.lines:
        return "nothing has been measured yet"
    places = columns(summary)
    quoted = sorted({shots for line in summary.lines for shots in line.quoted}, key=int)
    head = ["row", *map(heading, places), *(f"quoted {q}-shot" for q in quoted), ""]
    body = [
        [
            line.row.label,
            *cells_of(line, places),
            *(str(line.quoted.get(q, "")) for q in quoted),
            remarks(line),
        ]
        for line in summary.lines
    ]
    text = grid([head, *body]) + second_hand(summary.lines)
    text += "\n" if summary.chance is None else f"\nchance {100 * summary.chance:.1f} %; "
    text += f"accuracy in percent on the {summary.classes} classes, "
    text += f"mean [95 % interval] over {summary.over}\n"
    if summary.comparisons:
        text += f"\npaired differences in points\n{grid(contrast_rows(table, summary))}"
    return text


def second_hand(lines: Iterable[Line]) -> str:
    """Return a note on the numbers that the paper itself quotes from another paper."""
    return noted([number for line in lines for number in line.quoted.values()])


def noted(numbers: Iterable[PaperNumber]) -> str:
    """Return the note of ``second_hand`` on some numbers."""
    sources = {number.source for number in numbers if number.source}
    return f"\n\n\\* the paper quotes this number from {sorted(sources)[0]}\n" if sources else ""


def grid(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as aligned text."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def summary_document(request: Request, work: Work, summary: TableSummary) -> Document:
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
                    {"shots": int(k), "mode": m, **asdict(c.estimate), "values": dict(c.values)}
                    for (k, m), c in line.cells.items()
                ],
                "quoted_percent": {k: number.percent for k, number in line.quoted.items()},
                "failed": dict(line.failed),
                "absent": line.absent,
                "note": line.note,
            }
            for line in summary.lines
        ],
        "contrasts": [
            {"a": c.a, "b": c.b, "says": c.says, "shots": int(c.shots), "mode": c.mode,
             **asdict(c.difference), "resolved": c.resolved}
            for c in summary.comparisons
        ],
    }  # fmt: skip
