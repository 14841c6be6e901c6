"""Run folders: names, files, the newest one."""

import json
import os
import shutil
from pathlib import Path

import pytest

from skelfew.config import override, preset
from skelfew.runs.folder import Run, RunError, newest_run


def finish(run: Run, seconds: int) -> None:
    run.write_config(preset("recommended"))
    run.encoder.write_bytes(b"")
    os.utime(run.encoder, (seconds, seconds))


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    paths = {Run.create("demo", tmp_path).path.name for _ in range(3)}
    assert len(paths) == 3
    assert all(name.startswith("demo-") for name in paths)


def test_an_own_folder_must_be_new(tmp_path: Path) -> None:
    Run.create("demo", path=tmp_path / "mine")
    with pytest.raises(RunError, match=r"exists already.*--resume"):
        Run.create("demo", path=tmp_path / "mine")


def test_config_says_what_was_changed(tmp_path: Path) -> None:
    run = Run.create("demo", tmp_path)
    config = override(preset("paper"), "transfer.epochs", 3)
    run.write_config(config)
    document = json.loads((run.path / "config.json").read_text())
    assert document["preset"] == "paper"
    assert document["changed_from_preset"] == {"transfer.epochs": [100, 3]}
    assert Run.open(run.path).config() == config


def test_rows_without_a_torn_last_line(tmp_path: Path) -> None:
    run = Run.create("demo", tmp_path)
    run.write_config(preset("paper"))
    for epoch in range(3):
        run.append({"epoch": epoch, "loss": 1 / 3})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "lo')
    assert [row["epoch"] for row in run.rows()] == [0, 1, 2]
    run.keep_rows(2)
    run.append({"epoch": 2})
    assert [row["epoch"] for row in run.rows()] == [0, 1, 2]
    assert run.rows()[1]["loss"] == 1 / 3


def test_a_deleted_folder_is_not_made_anew(tmp_path: Path) -> None:
    run = Run.create("demo", tmp_path)
    run.write_config(preset("paper"))
    shutil.rmtree(run.path)
    with pytest.raises(RunError, match="deleted or moved while the run was going on"):
        run.append({"epoch": 0})
    assert not run.path.exists()


def test_newest_run_is_the_last_finished_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="train one with skelfew-train"):
        newest_run(tmp_path)
    old, new, unfinished = (Run.create("demo", tmp_path) for _ in range(3))
    finish(new, 200)
    finish(old, 100)
    unfinished.write_config(preset("paper"))
    assert newest_run(tmp_path).path == new.path


def test_environment_is_added_to_when_a_run_goes_on(tmp_path: Path) -> None:
    run = Run.create("demo", tmp_path)
    run.write_environment()
    run.write_environment()
    sessions = json.loads((run.path / "environment.json").read_text())["sessions"]
    assert len(sessions) == 2
    assert {"versions", "processor", "git_commit", "command", "threads"} <= set(sessions[0])


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"config\.json is missing"):
        Run.open(tmp_path)
