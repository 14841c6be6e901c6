"""Explanations of real encoders in run folders, and the planted evidence that they have to find."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_world import enliven, make_data, make_run

from skelfew.config import InputConfig
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.layouts import load_layout
from skelfew.errors import SkelfewError
from skelfew.evaluation.subjects import Subject, run_subject
from skelfew.explain.decision import Decision, NetworkInput
from skelfew.explain.explanation import Explanation, Search, explain, find_method
from skelfew.fewshot import build_classifier, build_head
from skelfew.fewshot.head import HeadClassifier
from skelfew.fewshot.trained import save_head
from skelfew.runs.folder import Run

JOINT, WHEN = 10, slice(5, 8)  # of 16 frames of network input
WIDTH = 32  # of the encoder's features
SAMPLE = "c4_s5"  # 17 frames


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The encoder of a run, with DASTM's head beside it, as both are drawn."""
    root = tmp_path_factory.mktemp("world")
    make_data(root)
    patch = pytest.MonkeyPatch()
    patch.chdir(root)
    run = Run.open(make_run(root, encoder="ctrgcn"))
    torch.manual_seed(0)
    head = build_head("dastm", width=WIDTH)
    save_head(run.head, HeadClassifier(head, "dastm"), WIDTH, {})
    found = run_subject(run, InputConfig())
    assert found.encoder is not None and found.pipeline is not None
    bank = SkeletonBank.from_store(found.store, found.manifest.ids, found.pipeline, 1)
    enliven(found.encoder, bank.batch(torch.arange(0, len(bank), 3), train=False))
    patch.undo()
    return found


def planted(subject: Subject) -> None:
    """Make the encoder blind but for one joint at one time, whatever it makes of that."""
    gate = torch.zeros(20, 3, 16)
    gate[JOINT, :, WHEN] = 1

    def blind(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0] * gate.view(60, 16).to(inputs[0]),)

    assert subject.encoder is not None
    subject.encoder.data_bn.register_forward_pre_hook(blind)


@pytest.mark.parametrize("name", ["cosine", "protonet", "dastm"])
def test_planted_evidence_is_found(
    subject: Subject, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(subject.manifest.path.parent.parent)  # type: ignore[union-attr]
    seeing = replace(subject, encoder=copy.deepcopy(subject.encoder))
    planted(seeing)
    method = find_method(seeing, name, {}, 1, [SAMPLE])
    (found,) = explain(method, [SAMPLE], Search(steps=30, limit=3.0, output="margin"))
    assert isinstance(found, Explanation), found
    assert found.attribution.complete and found.boundary.beyond < 0
    heat = found.heat().sum(axis=2)
    assert heat.shape == (16, 20)
    outside = heat.copy()
    outside[WHEN, JOINT] = 0
    assert heat.sum() > 0 and outside.sum() < 1e-9 * heat.sum()
    peak = found.to_dict()["peak"]
    assert peak["joint"] == load_layout("kinect-v1").joints[JOINT]
    # 17 frames are resized to 16: the three in question show frames 5.3 to 7.5 of the recording.
    assert 5.3 < peak["frame"] < 7.5
    assert found.heat(signed=True).sum() == pytest.approx(found.attribution.rise, rel=0.01)
    found.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as kept:
        assert np.allclose(kept["heat"], heat, rtol=1e-5)
        assert np.allclose(np.abs(kept["attribution"]).sum(axis=(0, 3)), heat, rtol=1e-4)
        assert kept["joints"][JOINT] == peak["joint"] and len(kept["frames"]) == 16
        assert kept["classes"][kept["logits"].argmax()] == kept["predicted"]
        assert kept["classes"][kept["boundary_logits"].argmax()] == kept["other"]


def test_the_head_of_the_run_is_the_default(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(subject.manifest.path.parent.parent)  # type: ignore[union-attr]
    assert find_method(subject, None, {}, 1, [SAMPLE]).name == "dastm"


def test_frames_are_those_that_the_batch_shows() -> None:
    """A clip whose only joint that moves says which frame it is."""
    layout = load_layout("joints-15")
    for kind, length, frames in (("ntu", 7, 40), ("ntu", 30, 9), ("ucla", 12, 50)):
        clip = np.zeros((1, frames, 15, 3), dtype=np.float32)
        clip[..., 1] = 1
        clip[0, :, 7, 0] = np.arange(frames)
        pipeline = Pipeline(kind=kind, length=length)
        bank = SkeletonBank.from_clips({"a": clip}, layout, pipeline, 1)
        shown = bank.batch(torch.tensor([0]), train=False)[0, 0, :, 7, 0].double()
        if kind == "ucla":
            shown = (shown + 1) / 2 * (frames - 1)
        assert torch.allclose(bank.source_frames(0), shown, atol=1e-4)


def bank_of(clip: np.ndarray, **pipeline: object) -> SkeletonBank:
    return SkeletonBank.from_clips(
        {"a": clip.astype(np.float32)}, load_layout("joints-15"), Pipeline(length=8, **pipeline), 2
    )


def test_copies_move_with_their_source_and_absent_bodies_stay_absent() -> None:
    clip = np.random.default_rng(0).normal(size=(1, 8, 15, 3))
    for missing, copied in (("duplicate", True), ("zeros", False)):
        bank = bank_of(clip, missing_body=missing)
        taken = NetworkInput.of(bank, 0)
        assert taken.values.shape == (1, 3, 8, 15, 1) and taken.bodies == (0,)
        assert taken.slots == (0, 0 if copied else -1)
        batch = bank.batch(torch.tensor([0]), train=False).double()
        assert torch.equal(taken.filled(taken.values), batch)
        moved = taken.filled(taken.values + 1)
        assert bool(moved[..., 1].any()) == copied


def test_confidences_and_joints_that_are_not_there_do_not_move() -> None:
    clip = np.random.default_rng(0).normal(size=(2, 8, 15, 3))
    clip[..., 2] = 0.5
    clip[0, 3:5, 6] = 0  # not found for a while
    clip[1, 6:] = 0  # the second person leaves
    taken = NetworkInput.of(bank_of(clip, coordinates=2, test_interval=1.0), 0)
    assert not taken.movable[:, 2].any()
    assert not taken.movable[0, :, 3:5, 6, 0].any() and taken.movable[0, 0, 2, 6, 0]
    assert not taken.movable[0, :, 6:, :, 1].any() and taken.movable[0, 1, 0, :, 1].all()


def test_a_transductive_classifier_is_refused(subject: Subject) -> None:
    classifier = build_classifier("cosine", {"tune_steps": 2, "entropy": 1, "entropy_on": "query"})
    with pytest.raises(SkelfewError, match="decides about all queries together"):
        Decision(subject.encoder, classifier, torch.zeros(3, 3, 16, 20, 1), 3)  # type: ignore[arg-type]


def test_a_decision_is_what_the_classifier_says(subject: Subject) -> None:
    """In double precision, it is the verdict of skelfew-eval: tuned and linear ones too."""
    draw = torch.Generator().manual_seed(0)
    support, query = (torch.randn(n, 3, 16, 20, 1, generator=draw) for n in (6, 4))
    assert subject.encoder is not None
    with torch.no_grad():
        one, other = subject.encoder(support)[None], subject.encoder(query)[None]
    for name in ("cosine", "cosine-paper", "linear", "nearest", "prototype", "protonet"):
        classifier = build_classifier(name)
        expected = classifier.scores(one, other, 3).logits[0]
        logits = Decision(subject.encoder, classifier, support, 3)(query.double())
        assert torch.allclose(logits.float(), expected, rtol=1e-3, atol=1e-4), name
