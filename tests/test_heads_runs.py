"""Runs with a head: trained, kept, chosen by the validation classes, scored."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_world import FAST, make_world

from skelfew.cli.evaluate import main as evaluate
from skelfew.cli.train import main as train
from skelfew.runs import Run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_world(root)
    return root


def call(command: object, *arguments: str) -> str:
    result = CliRunner().invoke(command, arguments)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.stdout


def train_with(name: str, *more: str) -> Run:
    line = ["--dataset=tiny", "--protocol=manifests/protocols/tiny.json", "--stages=episodic"]
    line += [*FAST, "--episodes=4", "--set=episodic.epoch_episodes=2", "--queries=2"]
    call(train, *line, f"--run=runs/{name}", f"--set=episodic.head={name}", *more)
    return Run.open(f"runs/{name}")


def test_a_run_with_a_head(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained with ProtoNet, and scored by it as it was trained unless told otherwise."""
    monkeypatch.chdir(world)
    run = train_with(
        "protonet", "--set=episodic.head_settings=metric=cosine", "--select=validation"
    )
    assert run.head.is_file() and "scale" in run.rows()[0]
    line = (f"--run={run.path}", "--json", "--mode=draws", "--draws=2")
    own = json.loads(call(evaluate, *line, "--classifier=protonet", "--classifier=cosine"))
    assert own["rows"][0]["settings"] == {"metric": "cosine"}
    cosine, protonet = own["rows"][1]["micro"], own["rows"][0]["micro"]
    assert protonet == cosine, "with one exemplar they are the same"
    line = (*line, "--classifier=protonet", "--set=metric=euclidean")
    other = json.loads(call(evaluate, *line))
    assert other["rows"][0]["settings"] == {"metric": "euclidean"}


def test_what_eval_refuses(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    for line, message in (
        (["--classifier=protonet", "--set=gamma=1"], "--set gamma is no setting of protonet"),
        (["--set=metric"], "--set metric: expected KEY=VALUE"),
    ):
        result = CliRunner().invoke(evaluate, line)
        assert result.exit_code == 2 and message in result.output
