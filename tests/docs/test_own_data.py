"""Every command of docs/own-data.md runs as printed, one after the other, in an empty folder."""

import re
import subprocess

import pytest
from walks import blocks

STEPS = ["recordings", "layout", "prepare", "split", "train", "score"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, commands: dict[str, str]) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("walk")
    printed = {}
    for name, block in blocks("own-data.md").items():
        result = subprocess.run(
            ["bash", "-e", "-c", block], cwd=folder, env=commands, capture_output=True, text=True
        )
        assert result.returncode == 0, f"{block}\n{result.stdout}\n{result.stderr}"
        printed[name] = result.stdout
        if name == "prepare":  # as the text says, the store carries the layout
            (folder / "mine" / "upper-body.toml").unlink()
    dropped = (folder / "manifests" / "gestures.dropped.csv").read_text()
    assert dropped.splitlines() == ["sample_id,source,reason"]
    assert (folder / "manifests" / "protocols" / "gestures.json").is_file()
    return printed


def test_every_step_is_there() -> None:
    assert list(blocks("own-data.md")) == STEPS


def test_the_walk_ends_in_a_score(outputs: dict[str, str]) -> None:
    assert outputs["recordings"].splitlines()[1] == "takes/left-circle-0.npy,circle left,person 0"
    assert outputs["prepare"].count(" 54 ") == 2, "all takes, prepared and checked"
    rows = re.findall(r"│ (\S+|aligned skeletons) +│ \S+ +│ +([\d.]+) % \[", outputs["score"])
    scores = {name: float(value) for name, value in rows}
    assert len(scores) == 2
    assert scores["aligned skeletons"] > 60, "three gestures, wherever they were performed"
    assert "3-way 1-shot" in outputs["score"] and "15 queries" in outputs["score"]
