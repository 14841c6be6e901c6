"""Runs with a head: trained, kept, chosen by the validation classes, scored."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from small_world import FAST, make_world, write_cache

from skelfew.cli.evaluate import main as evaluate
from skelfew.cli.train import main as train
from skelfew.data.input.augment import mirror
from skelfew.data.joints.body_parts import PARTS, body_parts
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest
from skelfew.encoders import build_encoder
from skelfew.encoders.outputs import read
from skelfew.runs.folder import Run

PROTOCOL = ["--protocol=manifests/protocols/tiny.json"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_world(root)
    return root


def call(command: object, *arguments: str) -> str:
    result = CliRunner().invoke(command, arguments)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.stdout


def train_with(name: str, *more: str, folder: str | None = None) -> Run:
    line = ["--dataset=tiny", *PROTOCOL, "--stages=episodic"]
    line += [*FAST, "--episodes=4", "--set=episodic.epoch_episodes=2", "--queries=2"]
    place = f"runs/{folder or name}"
    call(train, *line, f"--run={place}", f"--set=episodic.head={name}", *more)
    return Run.open(place)


def test_a_run_with_a_head(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained with ProtoNet, and scored by it as it was trained, by default."""
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


@pytest.mark.parametrize("name", ["subspace", "dastm", "jeanie"])
def test_runs_with_other_heads(name: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, mirror images, sequences and views: trained, chosen and scored; dropout repeats."""
    monkeypatch.chdir(world)
    settings = {
        "jeanie": ["--set=episodic.head_settings=yaws=3,degrees=20"],
        "dastm": ["--set=episodic.epoch_episodes=4"],  # slow at validation, so once
    }.get(name, [])
    run = train_with(name, "--select=validation", *settings)
    line = ["--json", "--mode=draws", "--draws=1", f"--classifier={name}"]
    found = json.loads(call(evaluate, f"--run={run.path}", *line))
    assert 0 <= found["rows"][0]["micro"]["value"] <= 1
    if name == "subspace":
        raw = json.loads(call(evaluate, "--raw", "--dataset=tiny", *PROTOCOL, *line))
        assert raw["rows"][0]["micro"]["value"] > 0.5, "movements are easy to tell apart"
        return
    if name == "jeanie":
        assert found["rows"][0]["settings"]["yaws"] == 3, "as it was trained"
        return
    again = train_with(name, "--select=validation", *settings, folder="again")
    one, other = load_file(run.head), load_file(again.head)
    assert one and all(torch.equal(one[key], other[key]) for key in one)
    result = CliRunner().invoke(evaluate, [f"--run={run.path}", "--classifier=smam"])
    assert result.exit_code == 1
    assert f"head.safetensors holds '{name}'; train with --set episodic.head=smam" in result.output


def test_a_run_with_apsr(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file has the relevances of all classes; a cache without them, or none, is refused."""
    monkeypatch.chdir(world)
    manifest, draw = Manifest.read("manifests/tiny.csv"), np.random.default_rng(0)
    cosines = draw.uniform(-1, 1, (len(manifest.classes), len(PARTS)))
    relevance = {"parts": list(PARTS)[::-1], "cosines": cosines[:, ::-1].tolist()}
    features = draw.normal(size=(len(manifest), 4))
    write_cache(Path("texts.zarr"), manifest, features, (), (), True, relevance=relevance)
    run = train_with("apsr", "--select=validation", "--cache=texts.zarr")
    kept = load_file(run.head)
    assert kept["texts.classes"].tolist() == sorted(manifest.classes)
    assert torch.equal(kept["texts.cosines"], torch.tensor(cosines, dtype=torch.float32))
    line = [f"--run={run.path}", "--json", "--mode=draws", "--draws=1", "--classifier=apsr"]
    one, other = (
        json.loads(call(evaluate, *line, f"--set=sharpness={s}"))["rows"][0]["results"][0][
            "answers"
        ]
        for s in (10, 0)
    )
    assert one != other, "parts count for something"
    for more, message in (
        ([], "the head apsr needs class texts: give --cache"),
        (["--cache=cache/tiny.zarr"], "--teacher text --out cache/tiny-text.zarr"),
        (["--cache=texts.zarr", "--encoder=tcn"], "SkeletonTCN gives no features of parts"),
    ):
        given = [*PROTOCOL, "--stages=episodic", *FAST, "--queries=2", "--run=runs/refused"]
        asked = ["--dataset=tiny", "--set=episodic.head=apsr", *given, *more]
        result = CliRunner().invoke(train, asked)
        assert result.exit_code == 1 and message in result.output, result.output


def test_sequences_and_mirror_images() -> None:
    """The mean of a sequence is the pooled feature; mirroring twice is nothing."""
    layout = load_layout("kinect-v2")
    skeletons = torch.randn(3, 3, 16, 25, 2)
    skeletons[1, ..., 1] = 0
    for body_pool in ("mean", "masked_mean"):
        encoder = build_encoder("ctrgcn", layout, width=0.125, body_pool=body_pool).eval()
        joints = read(encoder, skeletons, "joints")
        assert joints.shape == (3, 4, 25, encoder.feature_dim)
        pooled = encoder(skeletons)
        torch.testing.assert_close(joints.mean(dim=(1, 2)), pooled)
        torch.testing.assert_close(read(encoder, skeletons, "frames").mean(dim=1), pooled)
        sizes = torch.tensor([len(joints) for joints in body_parts(layout).values()]) / 25
        parts = read(encoder, skeletons, "parts")
        torch.testing.assert_close(torch.einsum("p,npd->nd", sizes, parts), pooled)
        torch.testing.assert_close(
            parts[:, 0], joints[:, :, layout.joints.index("head")].mean(dim=1)
        )
        both = read(encoder, skeletons, "mirrored")
        torch.testing.assert_close(both[:, 0], pooled)
        image = mirror(skeletons, layout)
        torch.testing.assert_close(both[:, 1], encoder(image))
        assert torch.equal(mirror(image, layout), skeletons)
    left, right = (layout.joints.index(f"{side}_hand") for side in ("left", "right"))
    assert torch.equal(image[:, 0, :, left], -skeletons[:, 0, :, right])


def test_what_eval_refuses(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    for line, message in (
        (["--classifier=protonet", "--set=gamma=1"], "--set gamma is no setting of protonet"),
        (["--set=metric"], "--set metric: expected KEY=VALUE"),
    ):
        result = CliRunner().invoke(evaluate, line)
        assert result.exit_code == 2 and message in result.output
