"""Actions taught from a few recordings: the same answers as skelfew-eval's, and fair confidence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from predict_world import SHOTS, make_predict_world
from real_recordings import some_actions

from skelfew.data.joints.layouts import load_layout
from skelfew.data.store import SkeletonStore
from skelfew.encoders.checkpoints import load_encoder, save_encoder
from skelfew.errors import SkelfewError
from skelfew.evaluation.scoring import Features
from skelfew.evaluation.subjects import encoder_subject
from skelfew.fewshot import build_classifier
from skelfew.predict.model import LayoutMismatch, Model
from skelfew.predict.recogniser import Recogniser
from skelfew.predict.recordings import Clip, read_clip
from skelfew.predict.similarity import left_out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_predict_world(tmp_path_factory.mktemp("predict"))


@pytest.fixture(scope="module")
def recogniser(world: Path) -> Recogniser:
    return Recogniser.learn(world / "my-actions", world / "runs" / "tiny")


def test_answers_are_those_of_skelfew_eval(world: Path, recogniser: Recogniser) -> None:
    from skelfew.data.manifest import Manifest

    manifest = Manifest.read(world / "manifests" / "tiny.csv").subset((3, 4, 5))
    store = SkeletonStore(world / "data" / "tiny.h5")
    path = world / "runs" / "tiny" / "encoder.safetensors"
    values = encoder_subject(path, manifest, store).features(manifest.ids)
    features = Features(values, tuple(manifest.ids), torch.tensor([s.class_id for s in manifest]))
    support = features.rows([f"c{c}_s{s}" for c in (3, 4, 5) for s in range(1, SHOTS + 1)])
    asked = [f"c{c}_s{s}" for c in (3, 4, 5) for s in range(SHOTS + 1, 9)]
    query = features.rows(asked)
    classifier = build_classifier("cosine")
    logits = classifier.scores(values[support][None], values[query][None], 3).logits[0]
    for sample_id, row in zip(asked, logits, strict=True):
        action, _, take = sample_id.partition("_s")
        found = recogniser.predict(world / "others" / action / f"take{take}.npy")
        assert found.nearest == f"c{int(row.argmax()) + 3}"
        assert found.similarity == pytest.approx(float(row.max()) / 10, abs=1e-5)
        assert found.runner_up != found.label == found.nearest
        assert 1 / 3 < found.confidence <= 1
        assert found.confidence + found.runner_up_confidence <= 1 + 1e-9


def test_many_at_once_are_the_same_as_one(world: Path, recogniser: Recogniser) -> None:
    paths = sorted((world / "others").glob("*/*.npy"))
    clips = [read_clip(path, recogniser.model.layout) for path in paths]
    together = recogniser.predict_clips(clips)
    for path, found in zip(paths, together, strict=True):
        alone = recogniser.predict(path)
        assert alone.nearest == found.nearest
        assert alone.confidence == pytest.approx(found.confidence, abs=2e-3)  # a large scale
        from_array = recogniser.predict(np.load(path))
        assert from_array.similarity == pytest.approx(found.similarity, abs=1e-5)


def test_confidence_is_the_share_that_is_right_when_left_out() -> None:
    takes = {a: [clip(i) + clip(9 + 3 * i + k) for k in range(3)] for i, a in enumerate("abc")}
    taught = Recogniser.learn(takes, Model.raw("kinect-v1"))
    apart, truth = left_out(taught.features, taught.labels)
    assert apart.shape == (9, 3)
    right = int((apart.argmax(dim=1) == truth).sum())
    mean = (taught.scale * apart.double()).softmax(dim=1).amax(dim=1).mean()
    assert float(mean) == pytest.approx((right + 1) / 11, abs=1e-3)
    # Leaving one out by hand.
    by_hand = Recogniser.learn(
        {"a": [clip(1), clip(2)], "b": [clip(3), clip(4)]}, Model.raw("kinect-v1")
    )
    apart, _ = left_out(by_hand.features, by_hand.labels)
    unit = torch.nn.functional.normalize(by_hand.features, dim=1)
    assert float(apart[0, 0]) == pytest.approx(float(unit[0] @ unit[1]), abs=1e-6)


def clip(seed: int, joints: int = 20, frames: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, joints, channels)) + 3


def test_one_exemplar_each_and_unequal_numbers() -> None:
    model = Model.raw("kinect-v1")
    one = Recogniser.learn({name: [clip(i)] for i, name in enumerate("abc")}, model)
    copy = one.predict(clip(1))
    assert copy.label == "b" and copy.similarity == pytest.approx(1, abs=1e-5)
    assert 0.6 < copy.confidence < 0.91
    uneven = Recogniser.learn({"a": [clip(0)], "b": [clip(1), clip(2), clip(3)]}, model)
    assert uneven.predict(clip(0)).label == "a" and uneven.predict(clip(3)).label == "b"


@pytest.mark.parametrize("rate", [0.5, 2, 10])
def test_the_rate_of_a_recording_does_not_matter(
    world: Path, recogniser: Recogniser, rate: float
) -> None:
    """300 frames for the same movement that the exemplars show in 15."""
    path = world / "others" / "c4" / "take8.npy"
    values = np.load(path)
    steps = np.linspace(0, len(values) - 1, int(len(values) * rate))
    before = steps.astype(int)
    after = np.minimum(before + 1, len(values) - 1)
    share = (steps - before)[:, None, None]
    resampled = (1 - share) * values[before] + share * values[after]
    other = recogniser.predict(resampled)
    assert other.label == recogniser.predict(path).label
    assert other.similarity == pytest.approx(recogniser.predict(path).similarity, abs=0.05)


@pytest.mark.parametrize(("axes", "said"), [([0, 1, 2], ""), ([0, 2, 1], "--option up=z")])
def test_a_recording_with_other_axes_gets_a_note(shared: Path, axes: list[int], said: str) -> None:
    actions = some_actions(shared, "utd-mhad", each=3)
    taught = Recogniser.learn({n: c[:2] for n, c in actions.items()}, Model.raw("kinect-v1"))
    for clips in actions.values():
        assert said in "".join(taught.predict(clips[2][..., axes]).notes)
        assert bool(said) == bool(taught.predict(clips[2][..., axes]).notes)


def test_a_single_frame_gets_an_answer_with_a_note(recogniser: Recogniser) -> None:
    found = recogniser.predict(clip(0, frames=1))
    assert found.notes[0] == "one frame only: a posture, without any motion"
    assert np.isfinite(found.confidence)


def test_other_joints_are_refused_with_the_way_out(world: Path) -> None:
    support = {"a": [clip(0, 25)], "b": [clip(1, 25)]}
    run = world / "runs" / "tiny"
    with pytest.raises(LayoutMismatch) as error:
        Recogniser.learn(support, run, layout="kinect-v2")
    assert "kinect-v2 (25 joints, 3D)" in str(error.value)
    assert "kinect-v1 (20 joints, 3D)" in str(error.value)
    assert "--map-joints makes them from yours (hip_centre = spine_base" in str(error.value)
    mapped = Recogniser.learn(support, run, layout="kinect-v2", map_joints=True)
    found = mapped.predict(clip(1, 25))
    assert found.label == "b" and found.notes == ("joints mapped from kinect-v2 to kinect-v1",)


def test_3d_joints_become_a_picture_for_a_run_of_2d_ones() -> None:
    model = Model.raw("coco", coordinates=2)
    recording = Clip("a", clip(0, 25)[None].astype(np.float32), load_layout("kinect-v2"), 3)
    with pytest.raises(LayoutMismatch, match="--map-joints"):
        model.fit(recording)
    fitted = model.fit(recording, map_joints=True)
    assert fitted.positions.shape == (1, 12, 17, 2) and fitted.coordinates == 2
    flat = Clip("b", fitted.positions, model.layout, 2)
    with pytest.raises(LayoutMismatch, match=r"b: 2D joints, but raw joints takes 3D"):
        Model.raw("coco").fit(flat)


def test_confidences_are_added_and_left_out(world: Path, tmp_path: Path) -> None:
    encoder, about = load_encoder(world / "runs" / "tiny" / "encoder.safetensors")
    about["pipeline"]["coordinates"] = 2
    save_encoder(tmp_path / "flat.safetensors", encoder, about)
    model = Model.from_run(tmp_path / "flat.safetensors")
    values = np.abs(clip(0, channels=2)[None]).astype(np.float32)
    fitted = model.fit(Clip("a", values, model.layout, 2))
    assert fitted.positions.shape[-1] == 3 and (fitted.positions[..., 2] == 1).all()
    scored = np.concatenate([values, np.full((*values.shape[:3], 1), 0.7, np.float32)], axis=-1)
    without = Model.raw("kinect-v1", coordinates=2).fit(Clip("a", scored, model.layout, 2))
    np.testing.assert_array_equal(without.positions, values)
    # Pixels with a third value in [0, 1] are not x, y, z here.
    pixels = [100 * clip(i, channels=3) * [1, 1, 0] + [0, 0, 0.9] for i in range(2)]
    taught = Recogniser.learn({"a": pixels[:1], "b": pixels[1:]}, model)
    assert taught.predict(pixels[0]).label == "a"


@pytest.mark.parametrize(
    ("support", "message"),
    [
        ({"a": [clip(0)]}, r"only one action \(a\); a second is needed"),
        ({}, r"only one action \(none\)"),
        ({"a": [clip(0)], "b": []}, "no recording of 'b'"),
        ({"a": [clip(0)], "b": [clip(0, 19)]}, r"b 1: an array of shape \(12, 19, 3\)"),
        ({"a": [clip(0)], "b": [0 * clip(0)]}, "b 1: no body in any of 12 frames"),
        ({"a": [clip(0)], "b": ["gone.npy"]}, "gone.npy: no such recording"),
    ],
)
def test_support_that_cannot_be_learned_from(
    support: dict[str, list[np.ndarray]], message: str
) -> None:
    with pytest.raises(SkelfewError, match=message):
        Recogniser.learn(support, Model.raw("kinect-v1"))


def test_runs_that_cannot_be_used(world: Path, tmp_path: Path) -> None:
    with pytest.raises(SkelfewError, match="no run here"):
        Model.from_run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SkelfewError, match="not finished; go on with skelfew-train --resume"):
        Model.from_run(tmp_path)
