"""skelfew-eval as a person uses it: its output and its exit status."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from evaluation_world import make_data, make_run

from skelfew.cli.evaluate import main
from skelfew.data.manifest import Manifest


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_data(root)
    with chdir(root):
        make_run(root, "older")
        make_run(root, "newer", teacher={"name": "xclip", "trained": False})
    times = (
        (root / "runs" / n / "encoder.safetensors", t) for n, t in (("older", 1), ("newer", 2))
    )
    for path, second in times:
        os.utime(path, (second, second))
    return root


def run(folder: Path, *arguments: str) -> Result:
    """Run the command in this process: a new one spends seconds on importing torch."""
    with chdir(folder):
        return CliRunner(env={"COLUMNS": "120"}).invoke(main, list(arguments))


def test_the_newest_run_in_a_process_of_its_own(world: Path) -> None:
    """The only one: what goes to which stream, as a shell sees it."""
    command = [sys.executable, "-m", "skelfew.cli.evaluate", "--shots", "1", "-v"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(command, cwd=world, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "tiny: 3-way 1-shot, tiny" in done.stdout
    assert "newer" in done.stdout and "older" not in done.stdout
    assert "chance 33.3 %" in done.stdout and "21 queries" in done.stdout
    assert "4 action 4: c4_s1" in done.stdout
    assert "was UNTRAINED" in " ".join(done.stdout.split())
    assert "kept in runs/newer/results/tiny-1shot-exemplars" in done.stderr
    (kept,) = (world / "runs" / "newer" / "results").glob("tiny-1shot-exemplars-*.json")
    document = json.loads(kept.read_text())
    assert document["rows"][0]["results"][0]["exemplars"]["4"] == ["c4_s1"]


def test_json_is_one_document_and_all_classifiers_are_rows(world: Path) -> None:
    done = run(world, "--json", "--run", "runs/older", "--classifier", "all", "--raw=joints")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    rows = [(row["features"], row["classifier"]) for row in document["rows"]]
    assert len(rows) == 10 and ("raw skeletons", "linear") in rows and ("older", "cosine") in rows
    assert document["data"]["manifest_sha256"]
    paper = next(row for row in document["rows"] if row["classifier"] == "cosine-paper")
    assert paper["settings"]["tune_steps"] == 20 and paper["settings"]["scale"] == 1.0


def test_two_runs_are_compared(world: Path) -> None:
    done = run(world, "--run", "runs/older", "--run", "runs/newer", "--mode", "draws")
    assert done.exit_code == 0, done.stderr
    assert "older" in done.stdout and "newer" in done.stdout
    assert "95 % interval over 10 draws" in done.stdout


def test_an_ensemble_of_runs(world: Path, tmp_path: Path) -> None:
    both = ("--run", "runs/older", "--run", "runs/newer", "--ensemble")
    done = run(world, *both, "--raw", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert [(r["features"], r["classifier"]) for r in document["rows"]] == [
        ("ensemble of older, newer", "ensemble"),
        ("aligned skeletons", "dtw"),
    ]
    assert document["rows"][0]["settings"] == {"runs": ["older", "newer"]}
    assert [m["name"] for m in document["subjects"][0]["members"]] == ["older", "newer"]
    shutil.copytree(world / "runs" / "older", tmp_path / "twin")
    alone, twice = (
        json.loads(run(world, *runs, "--mode", "draws", "--json").stdout)["rows"][0]["micro"]
        for runs in (
            ("--run", "runs/older"),
            ("--run", "runs/older", "--run", str(tmp_path / "twin"), "--ensemble"),
        )
    )
    assert alone == twice, "a run beside its copy is the run"
    one = run(world, "--run", "runs/older", "--ensemble")
    assert one.exit_code == 2 and "of several runs" in one.stderr
    same = run(world, "--run", "runs/older", "--run", "runs/older", "--ensemble")
    assert same.exit_code == 1 and "each named once" in same.stderr
    two = run(world, *both, "--classifier", "cosine", "--classifier", "nearest")
    assert two.exit_code == 1 and "by one --classifier" in two.stderr


def test_draws_within_a_view(world: Path) -> None:
    within = ("--run", "runs/older", "--within", "view")
    done = run(world, *within, "--mode", "draws", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["within"] == "view" and "of the same view only" in document["notes"][-1]
    assert document["rows"][0]["results"][0]["queries"] == 3 * 2 * (4 - 1)
    refused = run(world, *within)
    assert refused.exit_code == 1 and "give --mode draws or medoids, not exem" in refused.stderr
    unknown = run(world, "--run", "runs/older", "--within", "setup", "--mode", "draws")
    assert "the setup of 24 samples is not known, first c3_s1" in unknown.stderr


def test_an_encoder_without_its_run(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    encoder = "runs/older/encoder.safetensors"
    episodes = ("--mode", "episodes", "--ways", "2", "--queries", "4", "--episodes", "50")
    done = run(world, "--encoder", encoder, *episodes, "--out", str(out))
    assert done.exit_code == 0, done.stderr
    assert "2-way 1-shot" in done.stdout and "interval over 50 episodes" in done.stdout
    assert json.loads(out.read_text())["mode"] == "episodes"


def test_raw_needs_no_run(world: Path, tmp_path: Path) -> None:
    make_data(tmp_path)
    for form, name, rule in (
        (("--raw",), "aligned skeletons", "dtw"),
        (("--raw", "joints"), "raw skeletons", "cosine"),
        (("--raw=aligned", "--classifier", "nearest"), "aligned skeletons", "nearest"),
    ):
        done = run(tmp_path, *form, "--dataset", "tiny")
        assert done.exit_code == 0, done.stderr
        assert name in done.stdout and rule in done.stdout


def test_changed_data_are_noticed(tmp_path: Path) -> None:
    manifest, _ = make_data(tmp_path)
    Manifest("tiny", manifest.samples[:-1]).write(tmp_path / "manifests" / "tiny.csv")
    done = run(tmp_path, "--raw", "--dataset", "tiny")
    assert done.exit_code == 1 and "data/tiny.h5 was made with a manifest" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--run", "runs/none"), 1, "runs/none: no run here"),
        (("--shots", "9"), 1, "class 3 has 8 samples that can be exemplars, 9"),
        (("--protocol", "nothing"), 1, "no protocol 'nothing'; there are"),
        (("--split", "4"), 1, "has no splits, but split 4 was asked for"),
        (("--classifier", "nearest", "--scale", "2"), 2, "--scale is no setting of nearest"),
        (("--run", "a", "--encoder", "b"), 2, "give one"),
        (("--shots", "-1"), 2, "Invalid value"),
        (("--shots", "0"), 1, "has no projector"),
        (("--encoder", "nowhere.safetensors"), 1, "no such file"),
        (("--raw", "--dataset", "unknown"), 1, "skelfew-prepare unknown"),
        (("--device", "cuda:99"), 1, "--device cpu can"),
        (("--scale", "-1"), 1, "scale is -1.0; it must be greater than 0"),
    ],
)
def test_errors_are_one_line(
    world: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = run(world, *arguments)
    assert done.exit_code == status, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""
    if status == 1:
        assert sum(line.startswith("error:") for line in done.stderr.splitlines()) == 1


def test_without_runs_it_says_which_command_makes_one(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.exit_code == 1
    assert done.stderr == "error: runs: no finished run; train one with skelfew-train\n"
