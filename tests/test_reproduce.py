"""Tables of runs on a small world: budgets, resuming, failures, intervals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_world import BASE, EACH, make_world

from skelfew.base_samples import base_samples
from skelfew.config import TrainConfig, override
from skelfew.errors import SkelfewError
from skelfew.inputs import find_inputs
from skelfew.reproduce.engine import execute
from skelfew.reproduce.records import Records
from skelfew.reproduce.summary import paired, summarise
from skelfew.reproduce.tables import TableError, list_tables, load_table
from skelfew.reproduce.units import Request, Work, expand
from skelfew.statistics import student_interval, student_quantile

TABLE = """
title = "Tiny"
question = "Does it run?"
seeds = 2
shots = [1]
draws = 3

[common]
"encoder.name" = "ctrgcn"
"encoder.width" = 0.125
"data.frames" = 8
"transfer.hidden_dim" = 16
"transfer.projection_dim" = 8
"transfer.batch" = 20
"traditional.batch" = 20
"episodic.queries" = 2

[budget.tiny]
samples = 160

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


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_world(tmp_path)
    protocol = tmp_path / "manifests" / "protocols" / "tiny.json"
    (tmp_path / "small.toml").write_text(TABLE.replace("PROTOCOL", str(protocol)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def request(world: Path, **changes: Any) -> Request:
    settings = {"dataset": "tiny", "budget": "tiny", "device": "cpu", **changes}
    return Request(table=load_table(world / "small.toml"), **settings)


def run(world: Path, asked: Request) -> tuple[Work, Records, list[str]]:
    lines: list[str] = []
    work, records = expand(asked), Records(world / "runs")
    execute(work.units, records, world / "runs" / "small", say=lines.append)
    return work, records, lines


def test_every_row_spends_the_same(world: Path) -> None:
    work = expand(request(world))
    by_key = {u.key: u for u in work.units}
    trained = {r: by_key[keys[0]] for r, keys in work.by_row.items() if r != "raw"}
    episode = len(("novel", "classes")) * (1 + 2)
    assert all(abs(u.total - 160) < episode for u in trained.values())
    assert trained["transfer"].samples == {"transfer": 120, "episodic": 42}
    assert trained["traditional"].samples == {"traditional": 80, "episodic": 78}
    assert trained["episodic"].samples == {"episodic": 162}
    assert by_key[work.by_row["nearest"][0]].rows == ("transfer", "nearest")
    assert [u.unit for u in work.units] == ["seed 0"] * 4 + ["seed 1"] * 4


def test_runs_once_and_says_what_is_resolved(world: Path) -> None:
    asked = request(world, rows=("episodic", "transfer", "nearest"))
    work, records, lines = run(world, asked)
    assert len(lines) == len(work.units) == 4
    assert lines[-1].startswith("4/4 transfer, nearest, tiny seed 1: 1-shot ")
    before = records.path.read_bytes()
    assert run(world, asked)[2] == []
    assert records.path.read_bytes() == before
    found = {r: [records.get(k) or {} for k in keys] for r, keys in work.by_row.items()}
    summary = summarise(asked.table, "tiny", found, work.absent, work.over, "novel")
    by_row = {line.row.key: line for line in summary.lines}
    assert by_row["episodic"].quoted == {"1": 50.0}
    values = by_row["transfer"].cells["1", "draws"].values
    assert set(values) == {"0", "1"}
    assert by_row["nearest"].cells["1", "draws"].values != values
    assert summary.chance == 0.5
    (draws,) = [c for c in summary.comparisons if c.mode == "draws"]
    differences = [values[u] - by_row["episodic"].cells["1", "draws"].values[u] for u in values]
    assert draws.difference.value == pytest.approx(np.mean(differences))
    record = found["transfer"][0]
    assert set(record["scores"]) == {"novel", "validation"}
    assert "validation_accuracy" in record["last_epochs"]["episodic"]
    left = {p.name for p in (world / "runs" / "small").glob("transfer*0-*/*")}
    assert "metrics.jsonl" in left and not [n for n in left if n.endswith(".safetensors")]


def test_validation_mode_never_scores_novel_classes(world: Path) -> None:
    work, records, _ = run(world, request(world, rows=("episodic",), classes="validation", count=1))
    (record,) = [records.get(u.key) or {} for u in work.units]
    assert set(record["scores"]) == {"validation"}
    novel = expand(request(world, rows=("episodic",), count=1)).units[0]
    assert novel.key != record["key"]


def test_a_failure_is_recorded_and_the_others_go_on(world: Path) -> None:
    asked = request(world, count=1, settings={"transfer.collapse": 1e9})
    work, records, lines = run(world, asked)
    assert len(lines) == 4
    (key,) = set(work.by_row["transfer"])
    assert (records.get(key) or {})["kind"] == "CollapseError"
    assert records.settled(key), "it would collapse again"
    found = {r: [records.get(k) or {} for k in keys] for r, keys in work.by_row.items()}
    lines_of = {
        line.row.key: line
        for line in summarise(asked.table, "tiny", found, {}, "seeds", "novel").lines
    }
    assert lines_of["transfer"].failed == {"collapsed": 1}
    assert lines_of["episodic"].cells


def test_a_missing_cache_leaves_out_its_rows(world: Path) -> None:
    work = expand(request(world, caches={"teacher": "elsewhere.zarr"}))
    assert set(work.absent) == {"transfer", "nearest"}
    assert work.absent["transfer"] == "no elsewhere.zarr; make it with: skelfew-extract tiny"
    assert set(work.by_row) == {"episodic", "traditional", "raw"}


def test_killed_it_goes_on_to_the_same_numbers(world: Path) -> None:
    settings = ["--set", "episodic.epoch_episodes=2", "--rows", "episodic", "--seeds", "2"]
    program = [sys.executable, "-m", "skelfew.cli.reproduce", str(world / "small.toml"), *settings]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(folder: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*program, "--runs", folder, "--device", "cpu", "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    whole = start("whole")
    killed = start("killed")
    until = time.monotonic() + 120
    while not list((world / "killed").glob("small/*seed0*/checkpoint.safetensors")):
        assert time.monotonic() < until and killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    again = start("killed")
    output, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    expected, messages = whole.communicate(timeout=120)
    assert whole.returncode == 0, messages
    assert json.loads(output)["rows"] == json.loads(expected)["rows"]
    kept = [json.loads(line) for line in (world / "killed" / "records.jsonl").open()]
    assert len(kept) == len({r["key"] for r in kept}) == 2


def test_base_samples_are_nested_parts(world: Path) -> None:
    config = override(
        TrainConfig(
            stages=("episodic",), protocol=str(world / "manifests" / "protocols" / "tiny.json")
        ),
        "inputs.dataset",
        "tiny",
    )
    inputs = find_inputs(config)
    chosen = {}
    for count in (2, 3, None):
        chosen[count] = set(base_samples(override(config, "data.base_classes", count), inputs))
    assert chosen[2] < chosen[3] < chosen[None]
    assert len(chosen[2]) == 2 * EACH and len(chosen[None]) == len(BASE) * EACH
    few = override(config, "data.samples_per_class", 3)
    more = override(config, "data.samples_per_class", 4)
    assert set(base_samples(few, inputs)) < set(base_samples(more, inputs))
    assert len(base_samples(few, inputs)) == 3 * len(BASE)
    for key, text in (("base_classes", "4 base classes"), ("samples_per_class", "10 samples")):
        with pytest.raises(SkelfewError, match=text):
            base_samples(override(config, f"data.{key}", 99), inputs)


def test_student_intervals_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 4, 19, 400):
        assert student_quantile(0.975, freedom) == pytest.approx(
            stats.t.ppf(0.975, freedom), rel=1e-9
        )
    draw = np.random.default_rng(0)
    one, other = draw.normal(0.7, 0.1, 6), draw.normal(0.6, 0.1, 6)
    test = stats.ttest_rel(one, other).confidence_interval(0.95)
    named = [{str(i): float(v) for i, v in enumerate(values)} for values in (one, other)]
    ours = paired(*named, "seeds")
    assert ours is not None
    assert (ours.low, ours.high) == (pytest.approx(test.low), pytest.approx(test.high))
    assert paired({"0": 1.0}, {"1": 1.0}, "seeds") is None
    assert student_interval([0.5], "seeds").low is None


def test_a_record_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.append({"key": "a", "scores": {}})
    with records.path.open("ab") as file:
        file.write(b'{"key": "b", "sco')
    again = Records(tmp_path)
    again.append({"key": "c", "error": "broken", "kind": "SkelfewError"})
    fresh = Records(tmp_path)
    assert [r["key"] for r in fresh.all()] == ["a", "c"]
    assert fresh.settled("a") and not fresh.settled("b") and not fresh.settled("c")


@pytest.mark.parametrize("name", list_tables())
def test_the_tables_of_the_package_hold(name: str) -> None:
    table = load_table(name)
    assert table.question and "?" in table.question
    assert len(table.budgets) >= 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('cache = "teacher"', 'cache = "other"', "wants cache 'other'"),
        ('b = "episodic"', 'b = "nothing"', "no row 'nothing'"),
        ('"encoder.width"', '"encoder.wide"', "encoder.wide"),
        ("draws = 3", "drawings = 3", "a key 'drawings'"),
        ('key = "nearest"', 'key = "transfer"', "is there twice"),
        ("seeds = 2", "seeds = ", "cannot be read"),
    ],
)
def test_a_table_that_does_not_hold_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(TABLE.replace(old, new, 1))
    with pytest.raises(TableError, match=message) as error:
        load_table(path)
    assert str(path) in str(error.value) or "table bad" in str(error.value)
