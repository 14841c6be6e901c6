"""The paper's numbers for the test that a run was put to, from the tables of skelfew-reproduce."""

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from skelfew.config import TrainConfig
from skelfew.reproduce.rows import NO_MATTER, Row, Table, idle
from skelfew.reproduce.tables import list_tables, load_table

# What the paper's preset leaves to the data set; frames are those of CTR-GCN's preparation.
_FROM_DATA = ("data.bodies", "data.missing_body", "episodic.ways")
_FRAMES = {"nw-ucla": 52}


@dataclass(frozen=True)
class Quote:
    """A number of the paper.

    Attributes:
        percent: As printed.
        where: Table or figure.
        label: What the row is called there.
        same: Whether the run was trained like the row at the paper's own budget.
    """

    percent: float
    where: str
    label: str
    same: bool


def quotes(
    dataset: str, shots: int, config: TrainConfig | None = None, classifier: str = ""
) -> list[Quote]:
    """Return what the paper says about a data set with so many shots, equally trained rows first.

    Args:
        dataset: Name of the data set.
        shots: K.
        config: Of the run, to compare with; None for nothing in common.
        classifier: Likewise.
    """
    found = []
    for table in _tables():
        for row in table.rows:
            value = row.quoted.get(dataset, {}).get(str(shots))
            if value is not None:
                same = config is not None and _same(table, row, dataset, config, classifier)
                found.append(Quote(value.percent, _where(table), row.label, same))
    return sorted(found, key=lambda quote: not quote.same)


@cache
def _tables() -> tuple[Table, ...]:
    """The paper's own tables; those of evidence repeat their numbers."""
    return tuple(load_table(n) for n in list_tables() if re.fullmatch(r"[IVX]+|fig\d+", n))


def _where(table: Table) -> str:
    if table.id.startswith("fig"):
        return f"Figure {table.id.removeprefix('fig')}"
    return f"Table {table.id}"


def _same(table: Table, row: Row, dataset: str, config: TrainConfig, classifier: str) -> bool:
    """Whether a run has the encoder, preset and settings of a row in the paper's own budget.

    Settings of stages and encoders that take no part are not compared, nor those that the paper's
    preset leaves to the data set.
    """
    if "paper" not in table.budgets or tuple(row.stages) != tuple(config.stages):
        return False
    if len({r.classifier for r in table.rows}) > 1 and row.classifier != classifier:
        return False
    # Rows of ours, which quote nothing, may have other teachers.
    if len({r.caches for r in table.rows if r.caches and r.quoted}) > 1:
        wanted = [table.caches[key].path.format(dataset=dataset) for key in row.caches]
        used = [config.inputs.cache, *config.inputs.more_caches] if config.inputs.cache else []
        if [Path(place).stem for place in wanted] != [Path(place or "").stem for place in used]:
            return False
    start = table.start(row, dataset, "paper")
    if start.encoder.name != config.encoder.name:
        return False
    if config.encoder.own:
        start = replace(start, encoder=start.encoder.checked(shared=True))
    theirs, ours = start.flat(), config.flat()
    theirs["data.frames"] = theirs["data.frames"] or _FRAMES.get(dataset, 64)
    if theirs.get("transfer.representation") == "auto":
        theirs["transfer.representation"] = "f_v+f_t"
    ignored = (*NO_MATTER, *idle(config.stages), "seed", "split", *_FROM_DATA)
    return config.preset == theirs["preset"] and all(
        ours[key] == value for key, value in theirs.items() if not key.startswith(ignored)
    )
