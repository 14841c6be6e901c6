"""The inputs of a row of a table: several caches, initial weights, class texts; and its key."""

import hashlib
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from reproduce_world import TABLE, found, make_table_world, request, run
from small_world import write_cache

from skelfew.cache import TeacherCache
from skelfew.cli.evaluate import main as evaluate_command
from skelfew.cli.reproduce import main as reproduce_command
from skelfew.cli.train import configure
from skelfew.cli.train import main as train_command
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest
from skelfew.encoders import build_encoder
from skelfew.reproduce import expand as expansion
from skelfew.reproduce.engine import accuracies
from skelfew.reproduce.expand import expand
from skelfew.reproduce.plan import commands
from skelfew.reproduce.summary import summarise
from skelfew.reproduce.text import heading, remarks, terminal
from skelfew.runs.folder import Run
from skelfew.training.resolve import open_inputs, resolve

MORE = """
[caches.other]
path = "cache/{dataset}-other.zarr"
make = "skelfew-extract {dataset} --teacher other"

[inits.start]
path = "weights/start.pth"
make = "curl -o weights/start.pth https://example.org"

[[rows]]
key = "joined"
label = "two teachers and other weights to start from"
stages = ["transfer", "episodic"]
cache = ["teacher", "other"]
init = "start"

[[rows]]
key = "episodic"
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    more = TABLE.replace('\n[[rows]]\nkey = "episodic"\n', MORE, 1)
    make_table_world(tmp_path, more.replace("shots = [1]", "shots = [0, 1]"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def other_cache(root: Path) -> Path:
    """Write the same features in another order as those of another teacher."""
    one = TeacherCache.open(root / "cache" / "tiny.zarr")
    manifest = Manifest.read(root / "manifests" / "tiny.csv")
    path = root / "cache" / "tiny-other.zarr"
    values = one.targets(manifest.ids, "f_t")[:, 0]
    assert one.class_text is not None
    write_cache(path, manifest, values, (), (), True, one.class_text)
    return path


def start_weights(root: Path, seed: int) -> Path:
    """Write what a run of the row could start from: the weights of such an encoder."""
    torch.manual_seed(seed)
    encoder = build_encoder("agcn", load_layout("joints-15"), bodies=1, width=0.125)
    path = root / "weights" / "start.pth"
    path.parent.mkdir(exist_ok=True)
    torch.save(encoder.state_dict(), path)
    return path


def test_class_texts_on_rows_that_know_them(world: Path) -> None:
    asked = request(world, rows=("episodic", "transfer", "nearest", "raw"), count=1)
    work, records = run(world, asked, keep=True)
    numbers = found(work, records)
    summary = summarise(asked.table, "tiny", numbers, work.absent, work.over, "novel")
    lines = {line.row.key: line for line in summary.lines}

    (path,) = (world / "runs" / "small").glob("transfer-*")
    evaluated = CliRunner().invoke(
        evaluate_command, ["--shots", "0", "--run", str(path), "--json"], catch_exceptions=False
    )
    expected = json.loads(evaluated.stdout)["rows"][0]["micro"]["value"]
    for key in ("transfer", "nearest"):
        cells = lines[key].cells
        assert cells["0", "texts"].estimate.value == pytest.approx(expected, abs=1e-6)
        assert ("0", "validation") in cells and ("1", "draws") in cells
        assert lines[key].note == ""
    for key in ("episodic", "raw"):
        assert {shots for shots, _ in lines[key].cells} == {"1"}
        assert "no 0-shot score without a stage that learns" in remarks(lines[key])
    assert heading(("0", "texts")) in terminal(asked.table, summary)
    assert {c.shots for c in summary.comparisons} == {"1"}, "episodic has nothing to compare"

    (unit,) = [u for u in work.units if u.rows == ("transfer", "nearest")]
    of = numbers["transfer"][0]["scores"]["novel"]
    wanted = []
    for shots, name, modes in (
        ("0", "texts", ("texts",)),
        ("1", "cosine", ("exemplars", "draws")),
        ("1", "nearest", ("exemplars", "draws")),
    ):
        both = " / ".join(f"{100 * of[shots][name][m]['micro']:.1f}" for m in modes)
        wanted.append(f"{shots}-shot {name} {both} %")
    assert accuracies(unit, numbers["transfer"][0]) == ", ".join(wanted)


def test_zero_shots_change_the_keys_of_rows_that_know_texts_alone(world: Path) -> None:
    asked = request(world, count=1)
    one = replace(asked, table=replace(asked.table, shots=(1,)))
    with_texts, without = expand(asked).by_row, expand(one).by_row
    assert {row for row in without if with_texts[row] != without[row]} == {"transfer", "nearest"}


def test_a_cache_without_class_texts_leaves_out_the_row(world: Path) -> None:
    manifest = Manifest.read("manifests/tiny.csv")
    values = TeacherCache.open("cache/tiny.zarr").targets(manifest.ids, "f_v")[:, 0]
    write_cache(world / "cache" / "bare.zarr", manifest, values, (), (), True)
    work = expand(request(world, caches={"teacher": "cache/bare.zarr"}, count=1))
    assert "bare.zarr: has no class texts" in work.absent["transfer"]
    assert "episodic" in work.by_row


def test_inputs_of_a_row_are_looked_for(world: Path) -> None:
    other = other_cache(world)
    asked = request(world, rows=("joined",), count=1)
    why = "no weights/start.pth; make it with: curl -o weights/start.pth https://example.org"
    assert expand(asked).absent == {"joined": why}
    start = start_weights(world, 0)
    (unit,) = expand(asked).units
    assert unit.config is not None and unit.config.inputs.init == str(start)
    moved = start.rename(world / "elsewhere.pth")
    renamed = replace(asked, inits={"start": str(moved)})
    assert expand(renamed).units[0].key == unit.key, "where a file lies does not matter"
    other.rename(world / "cache" / "gone.zarr")
    assert "no cache/tiny-other.zarr; make it with" in expand(renamed).absent["joined"]
    found_again = replace(renamed, caches={"other": "cache/gone.zarr"})
    assert expand(found_again).units[0].key == unit.key
    places = {"teacher": "cache/gone.zarr", "other": "cache/tiny.zarr"}
    exchanged = replace(found_again, caches=places)
    assert expand(exchanged).units[0].key != unit.key, "the order of teachers does"
    start_weights(world, 1)
    assert expand(replace(found_again, inits={})).units[0].key != unit.key, "the weights do"


def test_joined_caches_and_initial_weights_reach_the_run(world: Path) -> None:
    other_cache(world)
    start = start_weights(world, 0)
    work, records = run(world, request(world, rows=("joined",), count=1))
    (unit,) = work.units
    record = records.get(unit.key)
    assert record is not None and record["scores"]["novel"]["0"]["texts"]
    config = Run.open(world / "runs" / "small" / unit.name).config()
    assert config.inputs.init == str(start)
    assert [Path(p).name for p in config.inputs.more_caches] == ["tiny-other.zarr"]


@pytest.mark.parametrize("row", ["transfer", "joined"])
def test_the_plan_gives_commands_that_say_the_same(world: Path, row: str) -> None:
    other_cache(world)
    start_weights(world, 0)
    (unit,) = expand(request(world, rows=(row,), count=1)).units
    train, *evaluations = commands(unit, Path("runs"))
    command = shlex.split(train)
    with train_command.make_context("skelfew-train", command[1:]) as context:
        given = {k: v for k, v in context.params.items() if v is not None}
    fixed = ("run", "name", "resume", "resume_or_start", "json", "debug", "preset", "settings")
    settings = given["settings"]
    given["cache"], *more = given["cache"]
    if more:
        given["more_caches"] = tuple(more)
    config = configure(
        given["preset"], {k: v for k, v in given.items() if k not in fixed}, settings
    )
    config = resolve(config, open_inputs(config)).config
    taking_part = [
        {k: v for k, v in c.flat().items() if not k.startswith(expansion.idle(c.stages))}
        for c in (replace(config, device="cpu"), unit.config)
        if c is not None
    ]
    assert taking_part[0] == taking_part[1]
    assert "traditional." not in train, "settings of stages that do not run"
    for evaluation, shots in zip(evaluations, "01", strict=True):
        assert evaluation.endswith(f" --shots {shots}")
        evaluate_command.make_context("skelfew-eval", shlex.split(evaluation)[1:])
    assert "--classifier" not in evaluations[0] and "--classifier all" in evaluations[1]


def test_unknown_keys_of_files_are_refused(world: Path) -> None:
    for option, there in (("--cache", "teacher, other"), ("--init", "start")):
        done = CliRunner().invoke(reproduce_command, ["small.toml", option, "x=y"])
        assert done.exit_code == 2 and f"{option} x: table small has {there}" in done.stderr


def test_keys_of_earlier_versions_stay(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without data a key is the same on every machine: a change makes all records be run again."""
    kept = []
    real = expansion.identity

    def keep(*given):  # type: ignore[no-untyped-def]
        kept.append(real(*given))
        return kept[-1]

    monkeypatch.setattr(expansion, "identity", keep)
    settings = {"encoder.name": "ctrgcn"}
    asked = request(world, rows=("transfer",), count=1, settings=settings)
    expand(replace(asked, table=replace(asked.table, shots=(1,))))
    (identity,) = kept
    identity |= dict.fromkeys(("manifest", "skeletons", "cache", "protocol"), "")
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    assert key == "ab9afb6bbfd44626e9e5ec1cf12811e7b09260ab06239dbfc45a38f047d88458"
