"""PKU-MMD and MSR Action Pairs in their raw formats, from the files to a few-shot score.

Neither data set may be redistributed, so the trees are made up, in the format and the folders of
the real ones: prepare, check, train two episodes, evaluate with the data set's own protocol.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from small_world import FAST

from skelfew.cli import evaluate, prepare, train

SEGMENT = 7  # frames of an action in the PKU-MMD tree


def run(command: click.Command, *arguments: object) -> tuple[int, Any, str]:
    """Run a command with --json; return its status, document and log."""
    result = CliRunner().invoke(command, [*map(str, arguments), "--json"])
    assert "Traceback" not in result.output, result.output
    return result.exit_code, json.loads(result.stdout or "null"), result.stderr


def joints(action: int, draw: np.random.Generator, frames: int, count: int) -> np.ndarray:
    """(T, count, 3) in metres, 3 m in front of the camera; the action is how they swing."""
    body = np.random.default_rng(0).uniform(-0.8, 0.8, (count, 3)) + np.array([0, 0, 3])
    way = np.random.default_rng(action).normal(size=3) * 0.2
    swing = np.sin(np.arange(frames) / 2 + draw.uniform(0, 3))[:, None, None]
    moved: np.ndarray = body + swing * way + draw.normal(scale=0.01, size=(frames, count, 3))
    return moved


def pku_tree(root: Path) -> None:
    """Two untrimmed recordings of all 51 actions in three views, each with its label file."""
    for folder in ("PKU_Skeleton_Renew", "Train_Label_PKU_final"):
        (root / folder).mkdir(parents=True)
    draw = np.random.default_rng(1)
    for name in (f"{file}-{view}" for file in ("0002", "0017") for view in "LMR"):
        labels, frames = [], []
        for action in range(1, 52):
            labels.append(f"{action},{len(frames) + 1},{len(frames) + SEGMENT},2")
            for body in joints(action, draw, SEGMENT + 2, 25):  # two frames between actions
                frames.append(np.concatenate([body.ravel(), np.zeros(75)]))
        if name == "0017-R":
            labels += ["52,1,7,2", f"8,{len(frames) - 2},{len(frames) + 9},2", "8,9,5,2"]
        rows = "".join(" ".join(f"{v:.6f}" for v in frame) + "  \n" for frame in frames)
        (root / "PKU_Skeleton_Renew" / f"{name}.txt").write_text(rows)
        (root / "Train_Label_PKU_final" / f"{name}.txt").write_text("\n".join(labels) + "\n")


def msr_tree(root: Path) -> None:
    """Twelve actions of three performers, twice, as Kinect v1's recorder writes them."""
    root.mkdir(parents=True)
    draw = np.random.default_rng(2)
    for action, performer, take in np.ndindex(12, 3, 2):
        lines = ["9 20"]
        for body in joints(action + 1, draw, 9, 20):
            lines.append("40")
            for x, y, z in body:
                lines.append(f"{x:.5f} {y:.5f} {z:.5f} 1")
                lines.append(f"{160 + 200 * x / z:.3f} {120 - 200 * y / z:.3f} {8000 * z:.1f} 1")
        name = f"a{action + 1:02}_s{performer + 1:02}_e{take + 1:02}_skeleton.txt"
        (root / name).write_text("\n".join(lines) + "\n")
    (root / "a01_s09_e01_skeleton.txt").write_text("9 20\n40\n1 2 3\n")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "tree", "samples", "damaged", "reasons", "protocol", "novel"),
    [
        ("pku", pku_tree, 306, 3, ("52", "past the end", "9"), "pku-mmd-oneshot", 11),
        ("msr", msr_tree, 72, 1, ("truncated: 1 of 40 rows",), "msr-action-pairs", 6),
    ],
)
def test_from_raw_files_to_a_score(
    home: Path,
    name: str,
    tree: Callable[[Path], None],
    samples: int,
    damaged: int,
    reasons: tuple[str, ...],
    protocol: str,
    novel: int,
) -> None:
    tree(home / "raw")
    status, document, log = run(prepare.main, name, "--raw", "raw", "--workers", 1)
    assert status == 3 and f"{damaged} damaged recordings were left out" in log
    assert document["samples"] == samples and document["dropped"] == damaged
    dropped = Path(f"manifests/{name}.dropped.csv").read_text()
    assert len(dropped.splitlines()) == 1 + damaged
    for reason in reasons:
        assert reason in dropped

    _, document, _ = run(prepare.main, "check", name)  # made-up bodies are no bodies
    assert document["problems"] == document["implausible"]
    assert set(document["per_class"].values()) == {6}

    tiny = [flag for flag in FAST if not flag.startswith("--set=transfer")]
    tiny += ["--dataset", name, "--stages", "episodic", "--episodes=2", "--queries=1"]
    status, _, log = run(train.main, *tiny)
    assert status == 0, log

    status, document, log = run(evaluate.main, "--shots", 1)
    assert status == 0, log
    assert document["protocol"]["name"] == protocol
    (row,) = document["rows"]
    result = row["results"][0]
    assert len(result["exemplars"]) == novel and result["queries"] == 5 * novel
