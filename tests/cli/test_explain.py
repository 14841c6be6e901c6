"""skelfew-explain on runs in files, its errors, and the commands of docs/explain.md."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from evaluation_world import enliven, make_data, make_run
from PIL import Image

from skelfew.cli.explain import main
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.manifest import Manifest
from skelfew.data.store import SkeletonStore
from skelfew.data.store_writer import SkeletonStoreWriter
from skelfew.encoders import build_encoder
from skelfew.encoders.checkpoints import load_encoder, save_encoder
from skelfew.fewshot import build_head
from skelfew.fewshot.head import HeadClassifier
from skelfew.fewshot.trained import save_head

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = ("--steps=25", "--limit=5", "--output=margin", "--threads=1")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with encoders as they are drawn, the second one with DASTM's head."""
    root = tmp_path_factory.mktemp("world")
    make_data(root)
    patch = pytest.MonkeyPatch()
    patch.chdir(root)
    lively(make_run(root, "utd"))
    other = HeadClassifier(build_head("dastm", width=32), "dastm")
    save_head(lively(make_run(root, "dastm")) / "head.safetensors", other, 32, {})
    patch.undo()
    return root


def lively(path: Path) -> Path:
    encoder, about = load_encoder(path / "encoder.safetensors")
    with SkeletonStore("data/tiny.h5") as store:
        bank = SkeletonBank.from_store(store, store.ids[::4], Pipeline(length=16), 1)
    enliven(encoder, bank.batch(torch.arange(len(bank)), train=False))
    save_encoder(path / "encoder.safetensors", encoder, about)
    return path


@pytest.fixture
def home(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(world)
    return world


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_the_commands_of_the_page(home: Path) -> None:
    text = (REPOSITORY / "docs" / "explain.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    skelfew-explain (.*)$", text, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line.replace("a12_s3_t1", "c4_s7"))
        result = run(*words, *QUICK, "--bins=8")
        assert result.exit_code == 0, result.output
        pictures = result.stdout.split()
        assert len(pictures) == (3 if "--compare" in words else 1)
        for picture in pictures:
            with Image.open(picture) as image:
                assert image.width > (1300 if "compare" in picture else 900)
            assert Path(picture).with_suffix(".svg").read_text().startswith("<?xml")
    kept = {p.name for p in Path("runs/utd/explain").iterdir()}
    stems = ("c4_s7-cosine", "c4_s7-protonet")
    assert kept >= {f"{s}.{e}" for s in stems for e in ("png", "svg", "npz")} | {
        "c4_s7-compare.png"
    }
    assert Path("runs/dastm/explain/c4_s7-dastm.png").is_file()


def test_the_findings(home: Path) -> None:
    result = run("c4_s7", "c5_s3", "--run=runs/utd", *QUICK, "--signed", "--json", "--out=found")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["failed"] == [] and len(document["explanations"]) == 2
    for found in document["explanations"]:
        assert found["classifier"] == "cosine" and found["completeness_error"] <= 0.01
        assert found["margin"] > 0 > found["margin_at_boundary"] > -1e-3 * found["margin"] * 1.01
        assert found["predicted"] != found["other"] and found["files"][0].startswith("found/")
        wrong = found["predicted"] != found["class_id"]
        assert wrong == (not found["correct"]) == bool(found["notes"])
        if wrong:
            assert "that is what is explained" in found["notes"][0]
            assert found["notes"][0] in result.stderr
        with np.load(found["files"][2]) as numbers:
            assert numbers["frames"].max() < 12 + int(found["sample_id"][-1])
    again = Path("again")
    assert run("c4_s7", "--run=runs/utd", *QUICK, "--signed", f"--out={again}").exit_code == 0
    for suffix in ("png", "svg"):
        one, other = (p / f"c4_s7-cosine.{suffix}" for p in (Path("found"), again))
        assert one.read_bytes() == other.read_bytes(), "drawn twice, it is the same"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c4_s77"], "no sample 'c4_s77' among 40 of"),
        (["c4_s77"], "close to it are c4_s7"),
        (["c1_s2"], "'c1_s2' shows class 1 (action 1), but tiny distinguishes the"),
        (["c4_s1"], "'c4_s1' is an exemplar of class 4 with 1 shots"),
        (["c4_s7", "--classifier=dastm"], "train with --set episodic.head=dastm"),
        (["c4_s7", "--run=runs/none"], "runs/none: no run here"),
        (["c4_s7", "--set=entropy_on=query", "--set=tune_steps=2", "--set=entropy=1"],
         "choose another --classifier"),
        (["c4_s7", "--limit=1e-6", "--steps=7"], "1e-06 of the recording's size after 7 steps"),
        (["c4_s7", "--store=no.h5"], "no.h5: no such skeleton store"),
    ],
)  # fmt: skip
def test_errors_are_one_line(home: Path, arguments: list[str], message: str) -> None:
    result = run(*([] if "--run=runs/none" in arguments else ["--run=runs/utd"]), *arguments)
    assert result.exit_code == 1 and message in result.stderr, result.output
    assert "error: " in result.stderr.splitlines()[-1]
    assert sum("error: " in line for line in result.stderr.splitlines()) == 1


def test_one_alone_cannot_be_compared(home: Path) -> None:
    result = run("c4_s7", "--run=runs/utd", "--classifier=cosine", "--compare")
    assert result.exit_code == 2 and "--compare needs two or more" in result.stderr


def test_a_sample_without_a_boundary_does_not_stop_others(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ("c4_s7", "c5_s3", "c3_s6")
    shares = [
        found["distance_share"]
        for found in json.loads(run(*ids, "--run=runs/utd", *QUICK, "--json").stdout)[
            "explanations"
        ]
    ]
    between = (min(shares) + max(shares)) / 2
    result = run(*ids, "--run=runs/utd", *QUICK, f"--limit={between}", "--json")
    assert result.exit_code == 3, result.output
    document = json.loads(result.stdout)
    assert document["failed"] and document["explanations"]
    assert len(document["failed"]) + len(document["explanations"]) == 3
    assert "no change of the verdict within" in document["failed"][0]["error"]


def test_a_run_of_another_layout_is_refused(home: Path) -> None:
    shutil.copytree("runs/utd", "runs/other", dirs_exist_ok=True)
    encoder = build_encoder("ctrgcn", "joints-15", bodies=1, width=0.125)
    save_encoder(Path("runs/other/encoder.safetensors"), encoder, {"dataset": "tiny"})
    result = run("c4_s7", "--run=runs/other", "--out=x")
    assert result.exit_code == 1
    assert "an encoder of joints-15 skeletons, but" in result.stderr
    assert "holds kinect-v1 ones" in result.stderr
    shutil.rmtree("runs/other")


def test_a_sample_without_skeleton_is_named(home: Path) -> None:
    manifest, skeletons = Manifest.read("manifests/tiny.csv"), SkeletonStore("data/tiny.h5")
    attrs = {"manifest_sha256": manifest.sha256}
    with SkeletonStoreWriter("data/part.h5", "kinect-v1", 20, attrs=attrs) as writer:
        for sample_id in manifest.ids[:-1]:
            writer.append(sample_id, skeletons[sample_id])
    arguments = ("--manifest=manifests/tiny.csv", "--store=data/part.h5")
    result = run(manifest.ids[-1], "--run=runs/utd", *arguments)
    assert result.exit_code == 1 and f"have no skeleton, first {manifest.ids[-1]}" in result.stderr


def test_without_captum_it_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    result = run("c4_s7", "--run=runs/utd", *QUICK)
    assert result.exit_code == 1 and "pip install 'skelfew[explain]'" in result.stderr
    assert torch.is_grad_enabled()
