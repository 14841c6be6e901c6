"""The paper's numbers for the test that a run was put to, from the tables of skelfew-reproduce."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from skelfew.config import TrainConfig, override, preset
from skelfew.reproduce.tables import Row, Table, list_tables, load_table


@dataclass(frozen=True)
class Quote:
    """A number of the paper.

    Attributes:
        percent: As printed.
        where: Table or figure.
        label: What the row is called there.
        same: Whether the run was trained like the row, in all that rows of that table differ in.
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
                found.append(Quote(value, _where(table), row.label, same))
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
    if tuple(row.stages) != tuple(config.stages):
        return False
    if len({r.classifier for r in table.rows}) > 1 and row.classifier != classifier:
        return False
    # Rows of ours, which quote nothing, may have other teachers.
    if len({r.caches for r in table.rows if r.caches and r.quoted}) > 1:
        wanted = [table.caches[key].path.format(dataset=dataset) for key in row.caches]
        used = [config.inputs.cache, *config.inputs.more_caches] if config.inputs.cache else []
        if [Path(place).stem for place in wanted] != [Path(place or "").stem for place in used]:
            return False
    trained = preset(row.preset or table.preset)
    for settings in (table.common, row.settings):
        for key, value in settings.items():
            trained = override(trained, key, value)
    theirs, ours = trained.flat(), config.flat()
    varied = {key for r in table.rows for key in r.settings}
    return all(theirs.get(key) == ours.get(key) for key in varied)
