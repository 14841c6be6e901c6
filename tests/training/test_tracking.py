"""Trackers get what metrics.jsonl holds; settings come from files."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_world import FAST, make_world

from skelfew.cli.train import main
from skelfew.config import ConfigError, preset
from skelfew.runs.folder import Run, RunError, read_config
from skelfew.training.run import resume, train
from skelfew.training.tracking import tracker


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_world(root)
    return root


def command(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_tensorboard_holds_every_number(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.chdir(world)
    run = Run(tmp_path / "run")
    command(
        "--cache=cache/tiny.zarr", *FAST, "--epochs=2", "--episodes=2", "--queries=1",
        "--log=tensorboard", f"--run={run.path}",
    )  # fmt: skip
    found = events.EventAccumulator(str(run.path / "tensorboard")).Reload()
    rows = run.rows()
    for step, row in enumerate(rows, 1):
        losses = {e.step: e.value for e in found.Scalars(f"{row['stage']}/loss")}
        assert losses[step] == pytest.approx(row["loss"])
    assert "transfer/lr" in found.Tags()["scalars"] and len(rows) == 3


def test_a_callback_of_ones_own(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first session and in those that resume; what it gets is the row that was written."""
    monkeypatch.chdir(world)
    got: list[dict[str, Any]] = []

    def callback(run: Run, row: Mapping[str, Any]) -> None:
        got.append(dict(row))
        if len(got) == 1:
            raise KeyboardInterrupt

    config = read_config(_toml(tmp_path, world))
    with pytest.raises(KeyboardInterrupt):
        train(config, run_path=tmp_path / "run", callback=callback)
    resume(tmp_path / "run", callback=callback)
    assert [row["epoch"] for row in got] == [1, 1, 2]
    assert got[1:] == Run.open(tmp_path / "run").rows()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_the_other_trackers(
    name: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real package writes to a folder, where it is installed."""
    pytest.importorskip(name)
    monkeypatch.chdir(world)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    train(read_config(_toml(tmp_path, world)), run_path=tmp_path / "run", callback=tracker(name))
    if name == "wandb":
        assert list((tmp_path / "run" / "wandb").glob("offline-run-*-run/*.wandb"))
        return
    import mlflow

    (kept,) = mlflow.search_runs(experiment_names=["skelfew"], output_format="list")
    losses = [row["loss"] for row in Run.open(tmp_path / "run").rows()]
    assert kept.data.metrics["transfer/loss"] == pytest.approx(losses[-1])
    mlflow.end_run()


def _toml(folder: Path, world: Path) -> Path:
    path = folder / "settings.toml"
    path.write_text(
        f"""
        stages = ["transfer"]
        threads = 1
        [inputs]
        cache = '{world / "cache/tiny.zarr"}'
        manifest = '{world / "manifests/tiny.csv"}'
        store = '{world / "data/tiny.h5"}'
        [encoder]
        width = 0.125
        [data]
        frames = 8
        [transfer]
        epochs = 2
        hidden_dim = 32
        projection_dim = 16
        """
    )
    return path


def test_a_file_of_settings(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TOML, what options say of it, and the config.json of the run that it made."""
    monkeypatch.chdir(world)
    toml = _toml(tmp_path, world)
    command(f"--config={toml}", "--epochs=1", f"--run={tmp_path / 'a'}")
    first = Run.open(tmp_path / "a").config()
    assert (first.transfer.epochs, first.transfer.hidden_dim, first.stages) == (
        1,
        32,
        ("transfer",),
    )
    command(f"--config={tmp_path / 'a/config.json'}", "--seed=3", f"--run={tmp_path / 'b'}")
    assert Run.open(tmp_path / "b").config() == replace(first, seed=3)
    assert read_config(toml, "paper").transfer.decay == preset("paper").transfer.decay


@pytest.mark.parametrize(
    ("name", "text", "error", "says"),
    [
        ("a.toml", "[transfer]\nepoch = 3", ConfigError, "epoch"),
        ("a.toml", "[transfer]\nepochs = 'x'", ConfigError, "epochs"),
        ("a.toml", "preset = 'none'", ConfigError, "no preset"),
        ("a.toml", "preset = 3", ConfigError, "expected a name"),
        ("a.toml", "= 3", ConfigError, "no readable settings"),
        ("a.json", "[1]", ConfigError, "no group"),
        ("a.json", "{}{", ConfigError, "no readable settings"),
        ("a.json", json.dumps({"inputs": {"cache": "https://h/c.zarr"}}), RunError, "an address"),
    ],
)
def test_files_that_are_none(
    tmp_path: Path, name: str, text: str, error: type[Exception], says: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=says) as caught:
        read_config(tmp_path / name)
    assert name in str(caught.value)


def test_a_tracker_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    result = CliRunner().invoke(main, ["--dataset=x", "--log=wandb"])
    assert result.exit_code == 1
    assert "pip install 'skelfew[wandb]'" in result.output
