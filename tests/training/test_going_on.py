"""Runs that are killed, interrupted or out of room go on to the same numbers."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_runs import assert_same_weights, config, numbers
from small_world import FAST
from warm import Warm

from skelfew.cli.train import main as train_command
from skelfew.errors import SkelfewError
from skelfew.training.loop import Interrupted
from skelfew.training.run import resume, train
from skelfew.training.stages import STAGES
from skelfew.training.stages.transfer import Transfer


def test_a_full_disk_ends_a_run_that_can_go_on(world: Path, tmp_path: Path) -> None:
    settings = config(world, stages="transfer")
    whole = train(settings, tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(SkelfewError, match=r"checkpoint.safetensors: cannot be written .*room"):
            train(settings, run_path=tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "full").glob("*.partial"))
    resume(tmp_path / "full")
    assert numbers(tmp_path / "full") == numbers(whole)
    assert_same_weights(tmp_path / "full", whole)


def command(python: str, world: Path, *options: str) -> list[str]:
    protocol = world.parent.parent / "manifests" / "protocols" / "tiny.json"
    fixed = [f"--cache={world}", f"--protocol={protocol}", "--batch=8", *FAST]
    fixed.append("--set=episodic.epoch_episodes=5")
    return [python, "-m", "skelfew.cli.train", *fixed, *options]


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stop(process: subprocess.Popen[str], how: signal.Signals) -> int:
    process.send_signal(how)
    process.communicate(timeout=60)
    return process.returncode


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.slow
def test_killed_and_interrupted_runs_end_like_an_undisturbed_one(
    warm: Warm, world: Path, tmp_path: Path
) -> None:
    options = ["--epochs=3", "--episodes=20", "--select=validation"]
    whole, run = tmp_path / "whole", tmp_path / "stopped"
    done = CliRunner().invoke(train_command, command("", world, *options, f"--run={whole}")[3:])
    assert done.exit_code == 0, done.output
    metrics = run / "metrics.jsonl"

    def rows() -> int:
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    process = start(command(warm.python, world, *options, f"--run={run}"))
    wait_for(lambda: rows() >= 1, process)
    assert stop(process, signal.SIGKILL) == -signal.SIGKILL
    again = [warm.python, "-m", "skelfew.cli.train", f"--resume={run}"]
    for enough, how in ((2, signal.SIGTERM), (4, signal.SIGINT)):
        process = start(again)
        wait_for(lambda enough=enough: rows() >= enough, process)
        assert stop(process, how) == 130
    final = subprocess.run(again, capture_output=True, text=True, check=False)
    assert final.returncode == 0, final.stderr
    assert final.stdout.strip() == str(run)
    assert numbers(run) == numbers(whole)
    assert_same_weights(run, whole)
    sessions = json.loads((run / "environment.json").read_text())["sessions"]
    assert len(sessions) == 4


def test_interrupted_in_the_middle_of_an_epoch(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"transfer__batch": 4, "stages": "transfer", "encoder__name": "stgcn"}  # has dropout
    whole = train(config(world, **changes), tmp_path)
    # A checkpoint after every step, and a signal after the first.
    settings = config(world, checkpoint_minutes=0, **changes)

    class Once(Transfer):
        def after_step(self) -> None:
            super().after_step()
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setitem(STAGES, "transfer", f"{__name__}:_Once")
        patch.setitem(globals(), "_Once", Once)
        train(settings, run_path=tmp_path / "stopped")
    assert not numbers(tmp_path / "stopped")
    assert resume(tmp_path / "stopped") == tmp_path / "stopped"
    assert numbers(tmp_path / "stopped") == numbers(whole)
    assert_same_weights(tmp_path / "stopped", whole)
    assert resume(tmp_path / "stopped") == tmp_path / "stopped"


def test_trains_where_nothing_of_the_video_side_is_installed(world: Path, tmp_path: Path) -> None:
    blocker = """
import sys
class Blocker:
    names = {"decord", "av", "open_clip", "torchvision", "skelfew_extract", "transformers", "PIL"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Blocker())
from skelfew.cli.train import main
main()
"""
    arguments = command(
        sys.executable, world, "--epochs=1", "--episodes=2", f"--run={tmp_path / 'run'}"
    )
    arguments[1:3] = ["-c", blocker]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run/encoder.safetensors").is_file()
