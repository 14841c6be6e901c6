"""A package of another author adds a reader, teacher, encoder, head and stage to all commands."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from warm import Warm

sys.path.insert(0, str(Path(__file__).parent / "extract"))
from video_files import write_video

from skelfew.encoders import ENCODERS
from skelfew.errors import SkelfewError
from skelfew.registry import Registry

PACKAGE = Path(__file__).parent / "extension"
CLASSES, EACH, FRAMES, JOINTS = range(1, 9), 4, 12, 15
TABLE = """
title = "More"
question = "Does a stage, an encoder and a head of another package run in a table?"
seeds = 1
shots = [1]
draws = 2

[common]
"encoder.name" = "moments"
"encoder.depth" = 3
"follow.batch" = 8
"episodic.head" = "manhattan"
"episodic.queries" = 2

[budget.tiny]
samples = 120

[dataset.spots]
protocol = "manifests/protocols/spots.json"

[caches.teacher]
path = "cache/{dataset}.zarr"
make = "skelfew-extract {dataset} --teacher colours"

[[rows]]
key = "follow"
label = "follow, then episodes"
stages = ["follow", "episodic"]
cache = "teacher"
classifier = "manhattan"
"""

Command = Callable[..., str]


def raw_recordings(folder: Path) -> None:
    """Write clips of class N, in which all joints go round N times as far, and their videos."""
    draw = np.random.default_rng(0)
    still = draw.uniform(30, 60, size=(JOINTS, 2))
    folder.mkdir()
    for c in CLASSES:
        for s in range(EACH):
            phase = np.linspace(0, c, FRAMES) + draw.uniform(0, 6)
            shift = 3 * c * np.stack([np.cos(phase), np.sin(phase)], axis=-1)
            points = np.clip(still + shift[:, None] + draw.normal(size=(FRAMES, JOINTS, 2)), 0, 95)
            np.save(folder / f"c{c}_s{s}.npy", points.astype(np.float32))
            picture = np.full((96, 96, 3), (25 * c, 255 - 25 * c, 90), dtype=np.uint8)
            write_video(folder / f"c{c}_s{s}", [picture] * FRAMES)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Run skelfew's commands where the package is installed, in one folder."""
    root = tmp_path_factory.mktemp("more")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    metadata = root / "site" / "skelfew_more-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: skelfew-more\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in names.items())
        for group, names in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    raw_recordings(root / "raw")
    (root / "more.toml").write_text(TABLE)
    path = [str(root / "site"), str(PACKAGE), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        warm = Warm()

        def run(name: str, *arguments: str, status: int = 0) -> str:
            line = [f"{warm.folder}/{name}", *arguments]
            done = subprocess.run(line, cwd=root, capture_output=True, text=True)
            assert done.returncode == status, done.stdout + done.stderr
            return done.stdout + done.stderr

        run.root = root  # type: ignore[attr-defined]
        yield run
        warm.close()


def test_help_lists_them(command: Command) -> None:
    shown = " ".join(command("skelfew-train", "--help").split()).replace("- ", "-")
    assert re.search(r"traditional, .*follow, in this order", shown)
    assert "gca-lstm, " in shown and "moments" in shown and "manhattan" in shown
    assert "spots" in command("skelfew-prepare", "--help")
    assert "manhattan" in command("skelfew-eval", "--help")


@pytest.mark.slow
def test_all_the_way(command: Command) -> None:
    """Prepare, extract, train, evaluate, reload, reproduce, report; settings are checked early."""
    root: Path = command.root  # type: ignore[attr-defined]
    command("skelfew-prepare", "spots", "--raw", "raw", "--option", "word=step", "--workers", "1")
    command("skelfew-prepare", "split", "spots", "--novel=7,8", "--validation=5,6", "--shots=1")
    extract = ["spots", "--teacher", "colours", "--videos", "raw", "--workers", "1"]
    command("skelfew-extract", *extract)
    train = [
        "--cache=cache/spots.zarr", "--protocol=manifests/protocols/spots.json", "--run=runs/a",
        "--stages=follow,episodic", "--encoder=moments", "--width=0.5", "--epochs=2", "--batch=8",
        "--episodes=6", "--queries=2", "--set=episodic.head=manhattan",
        "--set=episodic.head_settings=temperature=2", "--set=follow.weight=0.5", "--threads=1",
    ]  # fmt: skip
    refused = command("skelfew-train", *train, "--set=encoder.depth=9", status=1)
    assert "depth is 9; it must lie in [1, 8]" in refused and not (root / "runs").exists()
    command("skelfew-train", *train, "--set=encoder.depth=3")
    config = json.loads((root / "runs" / "a" / "config.json").read_text())
    assert (config["encoder"]["depth"], config["follow"]["weight"]) == (3, 0.5)
    assert config["changed_from_preset"]["encoder.depth"] == [2, 3]
    score = ["--run=runs/a", "--classifier=cosine", "--classifier=manhattan", "--out=score.json"]
    command("skelfew-eval", *score)
    rows = json.loads((root / "score.json").read_text())["rows"]
    by = {row["classifier"]: row for row in rows}
    assert by["manhattan"]["settings"] == {"temperature": 2.0}
    assert load_file(root / "runs" / "a" / "head.safetensors")["weight"].std() > 0
    # A file of an encoder with an own setting is an initial encoder, too.
    again = [a for a in train if not a.startswith(("--run", "--stages", "--epochs", "--batch"))]
    again = [a for a in again if "follow" not in a]
    init = ["--stages=episodic", "--init=runs/a/encoder.safetensors", "--set=encoder.depth=3"]
    command("skelfew-train", *again, "--run=runs/b", *init)
    made = command("skelfew-reproduce", "more.toml", "--dataset", "spots", "--budget", "tiny")
    assert "follow, then episodes" in made
    assert "manhattan" in command("skelfew-report", "runs/a", "runs/b")


def test_what_is_wrong_with_an_entry_point_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = [
        ("skelfew.things", "a", "no_such_module:A", "other"),
        ("skelfew.things", "b", "math:pi", "other"),
        ("skelfew.things", "b", "math:tau", "third"),
        ("skelfew.things", "own", "math:e", "other"),
    ]
    monkeypatch.setattr("skelfew.registry.declared", lambda: declared)
    things = Registry("thing", "skelfew.things", {"own": "math:inf"})
    assert list(things) == ["own", "a", "b"] and len(things) == 3
    with pytest.raises(
        SkelfewError, match="thing 'a' of the package other cannot be loaded from no"
    ):
        things.load("a")
    for name, both in (("b", "other and third"), ("own", "skelfew and other")):
        with pytest.raises(SkelfewError, match=f"{both} each have a thing called '{name}'"):
            things.load(name)
    with pytest.raises(SkelfewError, match="no thing 'c'; there are own, a, b"):
        things.load("c")
    assert "moments" not in ENCODERS


def test_old_head_files_and_configurations(tmp_path: Path) -> None:
    """Weights inside a head's only part, and settings of all encoders in every configuration."""
    from skelfew.config import TrainConfig, override
    from skelfew.fewshot import build_classifier, build_head
    from skelfew.fewshot.head import HeadClassifier
    from skelfew.fewshot.trained import bind, save_head

    path, head = tmp_path / "head.safetensors", build_head("smam", width=6)
    save_head(path, HeadClassifier(head, "smam"), 6, {})
    state = {k.removeprefix("attention."): v for k, v in load_file(path).items()}
    about = {"format": "skelfew-head", "head": '{"name":"smam","settings":{},"width":6}'}
    save_file(state, path, about)
    found = bind(build_classifier("smam"), path).head.state_dict()
    assert all((found[f"attention.{k}"] == v).all() for k, v in state.items())
    with pytest.raises(
        SkelfewError, match="encoder 'gca-lstm' has no setting 'image'; its settings"
    ):
        override(
            override(TrainConfig(), "encoder.name", "gca-lstm"), "encoder.image", "x"
        ).encoder.checked()
    once = {"image": "sl-dml", "image_size": 64, "embedding": None, "fusion": "average"}
    for name, own in (("agcn", {}), ("gca-lstm", {"fusion": "average", "form": "description"})):
        config = TrainConfig.from_dict({"encoder": {"name": name, **once}})
        assert config.encoder.own == own
        assert TrainConfig.from_dict(config.to_dict()) == config
