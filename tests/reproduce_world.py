"""A table of runs on the small world, and what the engine does with it, in this process."""

from pathlib import Path
from typing import Any

from small_world import make_world

from skelfew.reproduce.expand import expand
from skelfew.reproduce.records import Records
from skelfew.reproduce.tables import load_table
from skelfew.reproduce.units import Request, Work
from skelfew.reproduce.work import do

TABLE = """
title = "Tiny"
question = "Does it run?"
seeds = 2
shots = [1]
draws = 3

[common]
"encoder.name" = "agcn"
"encoder.width" = 0.125
"data.frames" = 8
"transfer.hidden_dim" = 16
"transfer.projection_dim" = 8
"transfer.batch" = 20
"traditional.batch" = 20
"episodic.queries" = 2
"episodic.episodes_per_step" = 4

[budget.tiny]
samples = 120

[dataset.tiny]
protocol = "PROTOCOL"

[caches.teacher]
path = "cache/{dataset}.zarr"
make = "skelfew-extract {dataset}"

[[rows]]
key = "episodic"
label = "episodes alone"
stages = ["episodic"]
quoted = { tiny = { 1 = 50.0 } }

[[rows]]
key = "traditional"
label = "classes, then episodes"
stages = ["traditional", "episodic"]

[[rows]]
key = "transfer"
label = "transfer, then episodes"
stages = ["transfer", "episodic"]
cache = "teacher"
share = { transfer = 3, episodic = 1 }

[[rows]]
key = "nearest"
label = "transfer, nearest neighbour"
stages = ["transfer", "episodic"]
cache = "teacher"
share = { transfer = 3, episodic = 1 }
classifier = "nearest"

[[contrasts]]
a = "transfer"
b = "episodic"
"""


def make_table_world(root: Path, table: str = TABLE) -> None:
    """Make the small world below ``root``, and small.toml there."""
    make_world(root)
    protocol = root / "manifests" / "protocols" / "tiny.json"
    (root / "small.toml").write_text(table.replace("PROTOCOL", str(protocol)))


def request(world: Path, **changes: Any) -> Request:
    """Ask for the table of a world."""
    settings = {
        "name": "small.toml",
        "dataset": "tiny",
        "budget": "tiny",
        "device": "cpu",
        **changes,
    }
    return Request(table=load_table(world / "small.toml"), **settings)


def run(world: Path, asked: Request, keep: bool = False) -> tuple[Work, Records]:
    """Do what the engine does, in this process; the engine's own test is the one with the kill."""
    work, records = expand(asked), Records(world / "runs")
    for unit in work.units:
        if not records.settled(unit.key):
            records.append(do(unit, world / "runs" / "small", keep))
    return work, records


def found(work: Work, records: Records) -> dict[str, list[dict[str, Any]]]:
    """Return the records of each row."""
    return {r: [records.get(k) or {} for k in keys] for r, keys in work.by_row.items()}
