"""A run that was really trained and scored, in a second or two, for the tests of reports."""

from contextlib import chdir
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from small_world import FAST, make_world

from skelfew.cli.evaluate import main as evaluate
from skelfew.cli.report import main as report
from skelfew.cli.train import main as train

TRAINING = ["--epochs=2", "--batch=16", "--episodes=4", "--set=episodic.epoch_episodes=2",
            "--ways=2", "--queries=2"]  # fmt: skip
HOSTILE = """</script><img src=x onerror="window.hit=1"><b>{{script}}</b> & ' " \\"""


def call(folder: Path, command: Any, *arguments: str, status: int = 0) -> Result:
    """Run a command in a folder and return what came of it."""
    with chdir(folder):
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def make_report_world(root: Path, label: str = "action") -> Path:
    """Write a data set, train ``runs/one`` on it below ``root``, score it beside raw skeletons."""
    make_world(root, label=label)
    call(root, train, "--cache=cache/tiny.zarr", "--run=runs/one", *FAST, *TRAINING)
    call(root, evaluate, "--run=runs/one", "--shots=1", "--raw=joints", "--threads=1")
    return root / "runs" / "one"


def run_report(folder: Path, *arguments: str, status: int = 0) -> Result:
    """Run skelfew-report in a folder."""
    return call(folder, report, *arguments, status=status)
