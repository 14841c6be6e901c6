"""Every number of the paper's tables is beside its row, and no other number does."""

import csv
from pathlib import Path

import pytest

from skelfew.report.quoted import quotes
from skelfew.reproduce.tables import load_table


def cells(golden: Path, table: str) -> list[tuple[str, str, str, str]]:
    """The printed cells of a table: row, data set, setting, number; dashes left out."""
    with (golden / "quoted.csv").open(newline="") as file:
        return [
            (line["row"], line["dataset"], line["setting"], line["value"])
            for line in csv.DictReader(file)
            if line["table"] == table and line["value"]
        ]


@pytest.mark.parametrize(
    ("table", "count"),
    [("I", 29), ("II", 60), ("III", 26), ("IV", 18), ("V", 16), ("VI", 0), ("VII", 42),
     ("VIII", 12), ("IX", 9), ("X", 9), ("XI", 9), ("XII", 9), ("fig6", 0)],
)  # fmt: skip
def test_tables_quote_each_cell_of_the_paper_once(golden: Path, table: str, count: int) -> None:
    printed = cells(golden, table)
    assert len(printed) == count
    shown = []
    for row in load_table(table).rows:
        for dataset, numbers in row.quoted.items():
            for shots, number in numbers.items():
                classes = row.settings.get("data.base_classes")
                setting = f"shots={shots}" + (f"|classes={classes}" if classes else "")
                shown.append((row.key, dataset, setting, f"{number.percent:.1f}"))
    wanted = [(d, s.split("|w")[0], v) for _, d, s, v in printed]
    assert sorted(cell[1:] for cell in shown) == sorted(wanted)
    for key in {cell[0] for cell in shown}:
        own = {cell[1:] for cell in shown if cell[0] == key}
        names = [{n for n, d, s, v in printed if (d, s.split("|w")[0], v) == cell} for cell in own]
        assert set.intersection(*names), f"the numbers of {key} are those of one printed row"


def test_the_page_has_every_number(golden: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "results" / "paper.md").read_text()
    shown = []
    for part in text.split("## Table ")[1:]:
        name, rows = part.split()[0], [line for line in part.splitlines() if line[:2] == "| "]
        head = [cell.strip() for row in rows[:1] for cell in row.strip("|").split("|")]
        for line in rows[1:]:
            line_cells = [cell.strip() for cell in line.strip("|").split("|")]
            count = line_cells[1].rpartition("-")[2]
            classes = f"|classes={count}" if name == "II" else ""
            for place, cell in zip(head[2:], line_cells[2:], strict=True):
                if cell and place.endswith("-shot"):
                    dataset, shots = place.removesuffix("-shot").split(", ")
                    setting = f"shots={shots}{classes}"
                    shown.append((name, dataset, setting, cell.rstrip("*")))
    printed = [(t, *c[1:]) for t in {s[0] for s in shown} for c in cells(golden, t)]
    assert len(shown) == 239
    assert sorted(shown) == sorted((t, d, s.split("|w")[0], v) for t, d, s, v in printed)


def test_second_hand_numbers_are_marked() -> None:
    """Section V-C: some numbers of other methods are from SMAM and not from their authors."""
    marked = {
        (name, row.key, shots)
        for name in ("I", "II", "III", "IV", "V", "VII")
        for row in load_table(name).rows
        for numbers in row.quoted.values()
        for shots, number in numbers.items()
        if number.source
    }
    five = {("I", k, "5") for k in ("fc", "average", "tcn", "sl-dml", "skeleton-dml")}
    five |= {("III", k, "5") for k in ("fc", "average", "tcn", "sl-dml", "skeleton-dml")}
    assert marked == five | {("IV", k, s) for k in ("sl-dml", "skeleton-dml") for s in "15"}


def test_a_report_quotes_the_tables_of_its_data_set() -> None:
    printed = {66.2, 69.6, 71.1, 71.7, 72.4, 73.6, 82.1, 82.5}
    assert {q.percent for q in quotes("nw-ucla", 1)} == printed
    assert quotes("tiny", 1) == quotes("msr-action-pairs", 1) == []
