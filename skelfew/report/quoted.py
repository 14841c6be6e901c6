"""The paper's numbers for the test that a run was put to, from the tables of skelfew-reproduce."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from skelfew.reproduce.rows import Row, Table
from skelfew.reproduce.tables import list_tables, load_table


@dataclass(frozen=True)
class Quote:
    """A number of the paper."""

    percent: float
    where: str
    label: str  # what the row is called there
    same: bool  # whether the run was trained like the row at the paper's own budget


def quotes(
    dataset: str, shots: int, alike: Callable[[Table, Row], bool] = lambda table, row: False
) -> list[Quote]:
    """Return what the paper says about a data set with so many shots, equally trained rows first.

    ``alike`` says whether a run was trained like a row, e.g. ``trained_alike`` of it.
    """
    found = []
    for table in _tables():
        for row in table.rows:
            value = row.quoted.get(dataset, {}).get(str(shots))
            if value is not None:
                found.append(Quote(value.percent, _where(table), row.label, alike(table, row)))
    return sorted(found, key=lambda quote: not quote.same)


@cache
def _tables() -> tuple[Table, ...]:
    """The paper's own tables; those of evidence repeat their numbers."""
    return tuple(load_table(n) for n in list_tables() if re.fullmatch(r"[IVX]+|fig\d+", n))


def _where(table: Table) -> str:
    if table.id.startswith("fig"):
        return f"Figure {table.id.removeprefix('fig')}"
    return f"Table {table.id}"
