"""Tables of runs on a small world: budgets, resuming, failures, intervals."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reproduce_world import TABLE, found, make_table_world, request, run
from small_world import BASE, EACH
from warm import Warm

from skelfew.config import TrainConfig, override
from skelfew.errors import SkelfewError
from skelfew.evaluation.statistics import student_interval, student_quantile
from skelfew.reproduce.document import write_results
from skelfew.reproduce.engine import execute
from skelfew.reproduce.expand import expand
from skelfew.reproduce.plan import plan_document
from skelfew.reproduce.published import adopt
from skelfew.reproduce.quotes import PaperNumber
from skelfew.reproduce.records import Records
from skelfew.reproduce.summary import paired, summarise
from skelfew.reproduce.tables import TableError, load_table
from skelfew.reproduce.text import difference, percent
from skelfew.reproduce.work import do
from skelfew.training.base_samples import base_samples
from skelfew.training.resolve import open_inputs


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_table_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_row_spends_the_same(world: Path) -> None:
    work = expand(request(world))
    by_key = {u.key: u for u in work.units}
    trained = {r: by_key[keys[0]] for r, keys in work.by_row.items() if r != "raw"}
    episode = 2 * (1 + 2)  # two classes of one exemplar and two queries
    assert all(abs(u.total - 120) < episode for u in trained.values())
    assert trained["transfer"].samples == {"transfer": 80, "episodic": 42}
    assert trained["traditional"].samples == {"traditional": 80, "episodic": 42}
    assert trained["episodic"].samples == {"episodic": 120}
    assert by_key[work.by_row["nearest"][0]].rows == ("transfer", "nearest")
    assert [u.unit for u in work.units] == ["seed 0"] * 4 + ["seed 1"] * 4

    asked = request(world, rows=("traditional", "transfer"), count=1)
    few = replace(
        asked.table.budgets["tiny"], share={"traditional": 1, "episodic": 3, "transfer": 9}
    )
    work = expand(replace(asked, table=replace(asked.table, budgets={"tiny": few})))
    assert [u.samples for u in work.units] == [
        {"traditional": 40, "episodic": 78},
        {"transfer": 80, "episodic": 42},  # by its own share
    ]


def test_a_table_from_runs_to_page(world: Path) -> None:
    asked = request(world, rows=("episodic", "transfer", "nearest", "raw"))
    work, records = run(world, asked)
    before = records.path.read_bytes()
    run(world, asked)
    assert records.path.read_bytes() == before, "nothing is done twice"

    numbers = found(work, records)
    summary = summarise(asked.table, "tiny", numbers, work.absent, work.over, "novel")
    by_row = {line.row.key: line for line in summary.lines}
    assert by_row["episodic"].quoted == {"1": PaperNumber(50.0)}
    values = by_row["transfer"].cells["1", "draws"].values
    assert set(values) == {"0", "1"}
    for i, record in enumerate(numbers["nearest"]):
        assert set(record["scores"]) == {"novel", "validation"}
        score = record["scores"]["novel"]["1"]["nearest"]["draws"]["micro"]
        assert by_row["nearest"].cells["1", "draws"].values[str(i)] == score
    assert by_row["raw"].cells["1", "exemplars"].estimate.low is None, "one number for all seeds"
    assert summary.chance == 0.5
    (draws,) = [c for c in summary.comparisons if c.mode == "draws"]
    differences = [values[u] - by_row["episodic"].cells["1", "draws"].values[u] for u in values]
    assert draws.difference.value == pytest.approx(np.mean(differences))
    assert "validation_accuracy" in numbers["transfer"][0]["last_epochs"]["episodic"]
    left = {p.name for p in (world / "runs" / "small").glob("transfer*-seed0-*/*")}
    assert "metrics.jsonl" in left and not [n for n in left if n.endswith(".safetensors")]

    page = world / "docs" / "results.md"
    findings = world / "docs" / "results" / "findings"
    findings.mkdir(parents=True)
    (findings / "small.md").write_text("What a person found.")
    (findings / "summary.md").write_text("What all tables show.")
    written = write_results(asked, work, numbers, page)
    table = world / "docs" / "results" / "small.md"
    assert {page, table} < set(written)
    files = {p: p.read_bytes() for p in written}
    write_results(asked, work, numbers, page)
    assert files == {p: p.read_bytes() for p in files}
    overview, text = page.read_text(), table.read_text()
    assert "What all tables show." in overview and "(results/small.md)" in overview
    cells = (world / "docs" / "results" / "paper.md").read_text()
    assert "- nw-ucla: first `skelfew-prepare nw-ucla --raw PATH`, `skelfew-extract" in cells
    assert "`skelfew-reproduce V --dataset nw-ucla --budget paper`\n- not measured here" in cells
    assert "    skelfew-reproduce small.toml --dataset tiny --budget tiny --seeds 2" in text
    assert "What a person found." in text and "| 50.0 |" in text
    assert f"| {percent(by_row['transfer'].cells['1', 'draws'].estimate)} |" in text
    assert f"| {difference(draws)} |" in text
    write_results(replace(asked, settings={"transfer.batch": "10"}), work, {}, page)
    write_results(replace(asked, caches={"teacher": "sent.zarr"}), work, {}, page)
    assert table.read_text().count("## tiny") == 3, "other settings and caches are listed beside it"
    assert " --cache teacher=sent.zarr " in table.read_text()
    plan = plan_document(asked, work, records, world / "runs")
    assert {u["state"] for u in plan["units"]} == {"done"}

    elsewhere = Records(world / "elsewhere")
    assert len(adopt(elsewhere, work.units, page.with_suffix(""))) == len(work.units)
    assert all(elsewhere.settled(u.key) for u in work.units) and not elsewhere.path.exists()
    again = summarise(asked.table, "tiny", found(work, elsewhere), {}, work.over, "novel")
    assert [line.cells for line in again.lines] == [line.cells for line in summary.lines]
    other = expand(request(world, rows=("episodic",), settings={"episodic.queries": "3"})).units
    five = [replace(u, shots=(5,)) for u in work.units]
    assert not adopt(Records(world / "nowhere"), [*other, *five], page.with_suffix(""))
    (world / "docs" / "results" / "bad.jsonl").write_text("[1]\n")
    with pytest.raises(SkelfewError, match=r"bad\.jsonl: line 1 is no published unit"):
        adopt(elsewhere, work.units, page.with_suffix(""))


def test_several_devices_take_units_in_turn(world: Path) -> None:
    work, records = expand(request(world, rows=("episodic",), count=2)), Records(world / "runs")
    execute(work.units, records, world / "runs" / "small", jobs=2, devices=("cpu", "cpu:0"))
    assert {r["machine"]["device"] for r in records.all()} == {"cpu", "cpu:0"}
    assert all(records.settled(unit.key) for unit in work.units), "the device is no part of a key"


def test_validation_mode_never_scores_novel_classes(world: Path) -> None:
    work, records = run(world, request(world, rows=("raw",), classes="validation", count=1))
    (record,) = [records.get(u.key) or {} for u in work.units]
    assert set(record["scores"]) == {"validation"}
    assert expand(request(world, rows=("raw",), count=1)).units[0].key != record["key"]
    trains_on = request(world, classes="validation", settings={"train_on_validation": "true"})
    assert "scores" in expand(trains_on).absent["episodic"]


def test_a_missing_cache_leaves_out_its_rows(world: Path) -> None:
    work = expand(request(world, caches={"teacher": "elsewhere.zarr"}))
    assert set(work.absent) == {"transfer", "nearest"}
    assert work.absent["transfer"] == "no elsewhere.zarr; make it with: skelfew-extract tiny"
    assert set(work.by_row) == {"episodic", "traditional", "raw"}


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_numbers(warm: Warm, world: Path) -> None:
    """The parent is killed; its worker saves and ends; the next start goes on, past a failure."""
    broken = '[[rows]]\nkey = "broken"\nlabel = "x"\nstages = ["episodic"]\n'
    broken += 'set = { "episodic.optimizer.lr" = 1e30 }\n\n[[rows]]\nkey = "traditional"'
    text = (world / "small.toml").read_text()
    (world / "small.toml").write_text(text.replace('[[rows]]\nkey = "traditional"', broken))
    program = [warm.python, "-m", "skelfew.cli.reproduce", "small.toml", "--seeds", "1"]
    program += ["--rows", "broken,episodic", "--runs", "runs", "--device", "cpu", "--json"]
    program += ["--set", "episodic.epoch_episodes=4", "--set", "episodic.episodes_per_step=1"]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            program,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def checkpoints() -> list[Path]:
        return list((world / "runs" / "small").glob("episodic-*/checkpoint.safetensors"))

    killed = start()
    until = time.monotonic() + 200
    while not checkpoints():
        assert time.monotonic() < until and killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    again = start()
    output, errors = again.communicate(timeout=200)
    assert again.returncode == 0, errors
    assert b"broken, tiny seed 0: error: episodic: " in errors
    rows = {r["key"]: r for r in json.loads(output)["rows"]}
    assert len(rows["broken"]["failed"]) == 1
    kept = [json.loads(line) for line in (world / "runs" / "records.jsonl").open()]
    (record,) = [r for r in kept if r["rows"] == ["episodic"]]
    assert record["resumed"]
    assert len(kept) == len({r["key"] for r in kept}) == 2
    settings = {"episodic.epoch_episodes": 4, "episodic.episodes_per_step": 1}
    asked = request(world, rows=("episodic",), count=1, settings=settings)
    whole = do(expand(asked).units[0], world / "whole")
    assert whole["scores"] == record["scores"]


def test_base_samples_are_nested_parts(world: Path) -> None:
    protocol = str(world / "manifests" / "protocols" / "tiny.json")
    start = TrainConfig(stages=("episodic",), protocol=protocol)
    config = override(start, "inputs.dataset", "tiny")
    inputs = open_inputs(config)
    chosen = {}
    for count in (2, 3, None):
        chosen[count] = set(base_samples(override(config, "data.base_classes", count).data, inputs))
    assert chosen[2] < chosen[3] < chosen[None]
    assert len(chosen[2]) == 2 * EACH and len(chosen[None]) == len(BASE) * EACH
    few = override(config, "data.samples_per_class", 3)
    more = override(config, "data.samples_per_class", 4)
    assert set(base_samples(few.data, inputs)) < set(base_samples(more.data, inputs))
    assert len(base_samples(few.data, inputs)) == 3 * len(BASE)
    for key, text in (("base_classes", "4 base classes"), ("samples_per_class", "10 samples")):
        with pytest.raises(SkelfewError, match=text):
            base_samples(override(config, f"data.{key}", 99).data, inputs)


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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('cache = "teacher"', 'cache = "other"', "wants cache 'other'"),
        ('b = "episodic"', 'b = "nothing"', "no row 'nothing'"),
        ('"encoder.width"', '"encoder.wide"', "has no setting 'wide'"),
        ("draws = 3", "drawings = 3", "a key 'drawings'"),
        ('key = "nearest"', 'key = "transfer"', "is there twice"),
        ("seeds = 2", "seeds = ", "cannot be read"),
        ('stages = ["episodic"]', 'stages = ["episodic"]\ninit = "other"', "wants init 'other'"),
        ('stages = ["episodic"]', 'stages = ["episodic"]\nshots = [0]', "0 shots need one of the"),
        ("shots = [1]", "shots = [0]", "0 shots need one of the stages transfer"),
        ("shots = [1]", "shots = [-1]", r"shots = \[-1\]; it takes a list of whole numbers"),
        ("shots = [1]", "shots = 1", "shots = 1; it takes a list"),
        ("samples = 120", "share = { rest = 1 }", "'tiny' gives a share to 'rest', which is no"),
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
