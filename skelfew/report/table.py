"""Scores of runs as rows, in every format that a paper, a page or a program wants."""

import csv
import io
from collections.abc import Sequence
from functools import partial
from typing import Any

from skelfew.evaluation.answers import UNTRAINED
from skelfew.evaluation.statistics import Estimate
from skelfew.io import clean
from skelfew.io.files import Document, Values
from skelfew.report.collect import RunFacts, Score
from skelfew.report.quoted import Quote, quotes
from skelfew.reproduce.budget import trained_alike

_HEAD = ("run", "test", "classifier", "accuracy [95 %]", "mean over classes", "chance", "quoted")
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
})  # fmt: skip


def rows_of(runs: Sequence[RunFacts]) -> list[Document]:
    """Return a row for each score of the runs and for each run without one.

    Means over several runs follow, then raw skeletons, each of their scores once.
    Accuracies are shares in [0, 1]; ``quoted_percent`` holds the paper's numbers for runs trained
    alike. Keys are the columns of the CSV.
    """
    rows, seen = [], set()
    for facts in runs:
        if not facts.scores:
            rows.append(_row(facts, None))
        for score in facts.scores:
            if score.features != facts.run.name:
                if score.key in seen:
                    continue
                seen.add(score.key)
            rows.append(_row(facts, score))
    names = {facts.run.name for facts in runs}
    return sorted(rows, key=lambda row: (row["run"] not in names, row["run"] in UNTRAINED))


def quotes_of(facts: RunFacts, score: Score) -> list[Quote]:
    """Return the paper's numbers for a score: none for raw skeletons or validation classes."""
    if (
        score.features in UNTRAINED
        or score.classes != "novel"
        or score.mode not in ("exemplars", "draws")
    ):
        return []
    alike = partial(trained_alike, facts.run.recorded(), score.dataset, score.classifier)
    return quotes(score.dataset, score.shots, alike)


def _row(facts: RunFacts, score: Score | None) -> Document:
    config = facts.run.recorded()
    row: Document = {
        "run": facts.run.name if score is None else score.features,
        "folder": str(facts.run.path),
        "finished": facts.run.finished,
        "stages": "+".join(config.stages),
        "encoder": config.encoder.name,
        "seed": config.seed,
    }
    if score is None:
        return row
    if score.features in UNTRAINED:
        row |= {"folder": None, "finished": None, "stages": None, "encoder": None, "seed": None}
    elif score.features != facts.run.name:
        row |= {"folder": None, "seed": None}
    same = [q.percent for q in quotes_of(facts, score) if q.same]
    return row | {
        "test": score.test,
        "dataset": score.dataset,
        "protocol": score.protocol,
        "splits": "+".join(score.splits),
        "mode": score.mode,
        "shots": score.shots,
        "ways": score.ways,
        "classes": score.classes,
        "classifier": score.classifier,
        "transductive": score.transductive,
        **_numbers("accuracy", score.micro),
        **_numbers("macro", score.macro),
        "interval_over": score.micro.of,
        "interval_count": score.micro.count,
        "chance": score.chance,
        "queries": score.queries,
        "quoted_percent": list(dict.fromkeys(same)),
        "teacher_untrained": score.document["teacher_untrained"],
        "scored": score.document["created"],
        "notes": list(score.document["notes"]),
    }


def _numbers(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def cells_of(row: Values) -> list[str]:
    """Return what people read of a row, in the order of the head."""
    if "accuracy" not in row:
        state = "not scored" if row["finished"] else "not finished"
        return [row["run"], state, "", "", "", "", ""]
    return [
        row["run"],
        row["test"],
        row["classifier"] + (" (transductive)" if row["transductive"] else ""),
        _estimate(row, "accuracy"),
        _estimate(row, "macro"),
        f"{100 * row['chance']:.1f}",
        ", ".join(f"{q:.1f}" for q in row["quoted_percent"]),
    ]


def _estimate(row: Values, name: str) -> str:
    estimate = Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], "", 0)
    return str(estimate).replace(" %", "")


def head() -> list[str]:
    """Return the heads of ``cells_of``; accuracies are in per cent."""
    return list(_HEAD)


def as_text(rows: Sequence[Values], style: str) -> str:
    """Return rows as ``markdown``, ``latex`` or ``csv``, without a newline at the end."""
    if style == "csv":
        return as_csv(rows)
    cells = [head(), *map(cells_of, rows)]
    return as_latex(cells) if style == "latex" else markdown(cells)


class OwnMarkdown(str):
    """A cell that skelfew wrote itself, with links or code; other cells are cleaned."""


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a Markdown table; the first row is its head."""
    lines = [
        f"| {' | '.join(c if isinstance(c, OwnMarkdown) else clean.markdown(c) for c in row)} |"
        for row in rows
    ]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def as_latex(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a tabular with rules of booktabs; the first row is its head."""
    columns = "ll" + "l" * (len(rows[0]) - 4) + "rr"
    lines = [
        " & ".join(clean.one_line(cell).translate(_LATEX) for cell in row) + r" \\" for row in rows
    ]
    return "\n".join([
        "% needs \\usepackage{booktabs}; accuracies in per cent",
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:],
        r"\bottomrule", r"\end{tabular}",
    ])  # fmt: skip


def as_csv(rows: Sequence[Values]) -> str:
    """Return rows with a column a key; lists are joined by semicolons, None is empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([clean.cell(_plain(row.get(column))) for column in columns])
    return text.getvalue().rstrip("\n")


def _plain(value: object) -> Any:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return value if not isinstance(value, bool) else str(value).lower()
