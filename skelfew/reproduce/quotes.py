"""The numbers that the paper prints in Tables I to XII, from quoted.csv. Standard library only."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("quoted.csv")


@dataclass(frozen=True)
class PaperNumber:
    """A number as printed in the paper."""

    percent: float
    # Where the paper took it from ("SMAM [51]"), "" if it does not name another paper
    source: str = ""

    def __str__(self) -> str:
        return f"{self.percent:.1f}" + ("*" if self.source else "")


def paper_numbers(table: str, row: str, setting: str = "") -> dict[str, dict[str, PaperNumber]]:
    """Return what a row of a table says, by data set and shots; empty if there is no such row.

    The table is ``I`` to ``XII``, the row as printed, e.g. ``ProtoNet [6]``; ``setting`` tells rows
    of one name apart, e.g. ``classes=20``.
    """
    return {
        dataset: dict(shots) for dataset, shots in _all().get((table, row, setting), {}).items()
    }


@cache
def _all() -> Mapping[tuple[str, str, str], dict[str, dict[str, PaperNumber]]]:
    found: dict[tuple[str, str, str], dict[str, dict[str, PaperNumber]]] = {}
    with FILE.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            row = found.setdefault((line["table"], line["row"], line["setting"]), {})
            number = PaperNumber(float(line["percent"]), line["source"])
            row.setdefault(line["dataset"], {})[line["shots"]] = number
    return found
