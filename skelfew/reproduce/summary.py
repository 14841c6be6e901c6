"""From records to rows with intervals, and to contrasts that say what is resolved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from skelfew.evaluation.answers import TEXTS
from skelfew.evaluation.statistics import Estimate, student_interval
from skelfew.io.files import Values
from skelfew.reproduce.quotes import PaperNumber
from skelfew.reproduce.rows import Row, Table

# How a number came about; "validation" is draws of the validation classes beside novel ones.
MODES = ("exemplars", "draws", TEXTS, "validation")


_NO_TEXTS = "no 0-shot score without a stage that learns from a teacher"


@dataclass(frozen=True)
class Cell:
    """Accuracies of one row, shots and mode."""

    estimate: Estimate  # mean over seeds or splits with Student's interval
    values: Mapping[str, float]  # one each, by seed or split


@dataclass(frozen=True)
class Line:
    """A row of a table with what was measured."""

    row: Row
    cells: Mapping[tuple[str, str], Cell]  # by (shots, mode)
    # Outcomes without a score, e.g. ``collapsed``, with how many there were.
    failed: Mapping[str, int] = field(default_factory=dict)
    absent: str = ""  # why there is nothing, "" if there is something
    # Clips that training passed through the encoder, of the first record
    samples: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None  # mean wall time of a unit
    # The paper's numbers for this data set, by shots
    quoted: Mapping[str, PaperNumber] = field(default_factory=dict)
    note: str = ""  # why it has no number where other rows have one, "" for no reason


@dataclass(frozen=True)
class Comparison:
    """The paired difference of two rows, in accuracy."""

    a: str
    b: str
    says: str
    shots: str
    mode: str  # ``exemplars``, ``draws`` or ``texts``
    difference: Estimate  # mean of a - b over the pairs, with Student's interval over them

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes 0."""
        d = self.difference
        return d.low is not None and d.high is not None and (d.low > 0 or d.high < 0)


@dataclass(frozen=True)
class TableSummary:
    """A table with what was measured on one data set."""

    lines: tuple[Line, ...]
    comparisons: tuple[Comparison, ...]  # for each contrast, shots and mode that has pairs
    records: tuple[Values, ...]
    over: str  # ``seeds`` or ``splits``
    classes: str  # ``novel`` or ``validation``
    chance: float | None  # accuracy of guessing, None if nothing was measured


def summarise(
    table: Table,
    dataset: str,
    records: Mapping[str, Sequence[Values]],
    absent: Mapping[str, str],
    over: str,
    classes: str,
) -> TableSummary:
    """Return rows and contrasts; ``records``, and ``absent``, the reason if there are none, by row
    key.

    ``over`` is ``seeds`` or ``splits``, ``classes`` ``novel`` or ``validation``.
    """
    lines = [
        _line(table, row, dataset, records.get(row.key, ()), absent.get(row.key, ""), over, classes)
        for row in table.rows_for(dataset)
        if records.get(row.key)
        or row.key in absent
        or (row.key in records and row.quoted.get(dataset))
    ]
    if any(shots == "0" for line in lines for shots, _ in line.cells):
        lines = [line if line.row.knows_texts else replace(line, note=_NO_TEXTS) for line in lines]
    cells = {line.row.key: line.cells for line in lines}
    comparisons = []
    for contrast in table.contrasts:
        one, other = cells.get(contrast.a, {}), cells.get(contrast.b, {})
        for place in one:
            if place not in other or place[1] == "validation":
                continue
            if (difference := paired(one[place].values, other[place].values, over)) is not None:
                comparisons.append(
                    Comparison(contrast.a, contrast.b, contrast.says, *place, difference)
                )
    everything = {r["key"]: r for group in records.values() for r in group}
    name = "chance" if classes == "novel" else "validation_chance"
    chances = [r[name] for r in everything.values() if name in r]
    return TableSummary(
        tuple(lines),
        tuple(comparisons),
        tuple(everything.values()),
        over,
        classes,
        chances[0] if chances else None,
    )


def paired(one: Mapping[str, float], other: Mapping[str, float], over: str) -> Estimate | None:
    """Return the mean of ``one - other`` over the seeds or splits that both have; None if none."""
    common = [unit for unit in one if unit in other]
    if not common:
        return None
    return student_interval([one[u] - other[u] for u in common], over, difference=True)


def _line(
    table: Table,
    row: Row,
    dataset: str,
    records: Sequence[Values],
    absent: str,
    over: str,
    classes: str,
) -> Line:
    scored = [r for r in records if "error" not in r]
    cells: dict[tuple[str, str], Cell] = {}
    for shots in map(str, table.shots_of(row)):
        for mode in MODES:
            values = {}
            for record in scored:
                number = _number(record["scores"], classes, shots, row.classifier, mode)
                if number is not None:
                    values[_unit(record)] = number
            if values:
                cells[shots, mode] = Cell(_estimate(row, mode, values, over), values)
    failed: dict[str, int] = {}
    for record in records:
        if "error" in record:
            what = {"CollapseError": "collapsed", "NotFiniteError": "diverged"}
            name = what.get(str(record["kind"]), str(record["error"]))
            failed[name] = failed.get(name, 0) + 1
    times = [r["seconds"] for r in scored if not r.get("resumed")]
    return Line(
        row,
        cells,
        failed,
        absent,
        scored[0].get("samples", {}) if scored else {},
        sum(times) / len(times) if times else None,
        row.quoted.get(dataset, {}),
    )


def _estimate(row: Row, mode: str, values: Mapping[str, float], over: str) -> Estimate:
    if row.features != "encoder" and mode == "exemplars" and over == "seeds":
        # The same exemplars and no training: one number, however many seeds.
        return Estimate(next(iter(values.values())), None, None, over, 1)
    return student_interval(list(values.values()), over)


def _number(scores: Values, classes: str, shots: str, classifier: str, mode: str) -> float | None:
    if mode == "validation":
        if classes == "validation":
            return None
        classes, mode = "validation", "draws" if shots != "0" else TEXTS
    cells = scores.get(classes, {}).get(shots, {}).get(scored_by(classifier, shots), {})
    return cells.get(mode, {}).get("micro")


def scored_by(classifier: str, shots: str) -> str:
    """Return the name under which a record has the score of a row with this classifier."""
    return classifier if shots != "0" else TEXTS


def _unit(record: Values) -> str:
    return str(record["split"] or record["seed"])
