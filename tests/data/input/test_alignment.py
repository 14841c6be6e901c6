"""Aligned bodies: where they walk, which way they face and how large they are divided out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from skelfew.data.input.alignment import alignment, origin_joints, sides
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.layouts import LAYOUTS, load_layout
from skelfew.errors import SkelfewError

BODY = load_layout("kinect-v1")


def walk(seed: int = 0, bodies: int = 1, frames: int = 30, values: int = 3) -> np.ndarray:
    """A body of random shape that moves a little, facing the camera (left at smaller x)."""
    random = np.random.default_rng(seed)
    clip = random.normal(0, 0.3, (bodies, 1, len(BODY), values))
    clip = clip + random.normal(0, 0.02, (bodies, frames, len(BODY), values)).cumsum(axis=1)
    for left, right in sides(BODY):
        clip[:, :, left, 0] -= 1
        clip[:, :, right, 0] += 1
    return (clip + 3).astype(np.float32)


def moved(clip: np.ndarray, degrees: float = 0, factor: float = 1, drift: float = 0) -> np.ndarray:
    """The same performance seen from elsewhere, by a larger body, that walks away meanwhile."""
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    path = np.linspace(0, drift, clip.shape[1])[None, :, None, None] * np.array([1, 0, 1])
    return (factor * clip @ turn + path).astype(np.float32)


def prepared(clips: dict[str, np.ndarray], bodies: int = 1, **settings: str) -> Tensor:
    coordinates = 2 if next(iter(clips.values())).shape[-1] == 2 else 3
    pipeline = Pipeline(length=16, missing_body="zeros", coordinates=coordinates, **settings)  # type: ignore[arg-type]
    bank = SkeletonBank.from_clips(clips, BODY, pipeline, bodies)
    return bank.batch(torch.arange(len(clips)), train=False)


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        ({"facing": "camera"}, {"degrees": 140}),
        ({"facing": "camera", "size": "body"}, {"degrees": -75, "factor": 1000}),
        ({"root": "each"}, {"drift": 2}),
        ({"root": "level"}, {"drift": 2}),
        ({"root": "each", "facing": "camera", "size": "body"},
         {"degrees": 30, "factor": 2, "drift": 5}),
    ],
)  # fmt: skip
def test_what_alignment_divides_out(settings: dict[str, str], other: dict[str, float]) -> None:
    """In batches of clips of several lengths, with a second body, as for a clip alone."""
    clip = walk(bodies=2)
    clips = {
        "a": clip, "b": moved(clip, **other), "short": walk(1, frames=7), "long": walk(2, frames=90)
    }  # fmt: skip
    x = prepared(clips, 2, **settings)
    torch.testing.assert_close(x[0], x[1], rtol=0, atol=2e-5)
    plain = prepared(clips, 2)
    assert (plain[0] - plain[1]).abs().max() > 0.1, "it does without alignment"
    torch.testing.assert_close(x[3], prepared({"long": clips["long"]}, 2, **settings)[0])


def test_heights_stay_and_bodies_keep_their_distance() -> None:
    clip = walk(bodies=2)
    clip[:, :, :, 1] += np.linspace(0, 1, 30)[None, :, None]  # a jump
    level, each = (prepared({"a": clip}, 2, root=root)[0] for root in ("level", "each"))
    rises = level[1, -1, BODY.root, 0] - level[1, 0, BODY.root, 0]
    assert rises > 0.8 and each[:, :, BODY.root, 0].abs().max() < 1e-5
    apart = torch.from_numpy(clip[1] - clip[0])[[0, -1]].mean(dim=(1, 2))
    found = (level[..., 1] - level[..., 0]).mean(dim=(0, 2))[[0, -1]]
    torch.testing.assert_close(found, apart, atol=0.02, rtol=0)


def test_absent_bodies_and_joints_stay_absent() -> None:
    clip = walk(bodies=2, values=4)
    clip[..., 3] = 1
    clip[0, :5] = 0  # the first body comes later: until then the second gives the origin
    clip[1, 20:] = 0
    clip[:, 10, 4] = 0  # a joint that was not found
    pipeline = Pipeline(length=30, test_interval=1.0, missing_body="zeros", root="each",
                        facing="camera", size="body")  # fmt: skip
    bank = SkeletonBank.from_clips({"a": clip}, BODY, pipeline, 2)
    x = bank.clip(0)
    assert not x[0, :5].any() and not x[1, 20:].any() and not x[:, 10, 4].any()
    assert x[1, :5, BODY.root, :3].abs().max() < 1e-6
    assert torch.equal(x[..., 3], torch.from_numpy(clip[..., 3])), "confidences are no positions"


def test_pictures_are_not_turned() -> None:
    clip = walk(values=2)
    drift = clip + np.linspace(0, 3, 30, dtype=np.float32)[None, :, None, None]
    x = prepared({"a": clip, "b": drift}, root="each", facing="camera", size="body")
    torch.testing.assert_close(x[0], x[1], rtol=0, atol=1e-5)


def test_every_layout_has_an_origin() -> None:
    for layout in LAYOUTS.values():
        names = [layout.joints[joint] for joint in origin_joints(layout)]
        assert len(sides(layout)) == 2, layout.name
        assert not any("eye" in name or "nose" in name for name in names), layout.name
    x = torch.randn(2, 1, 9, len(LAYOUTS["coco"]), 3)
    there = torch.ones(2, 1, 9, dtype=torch.bool)
    absent = torch.zeros_like(there)
    for shown in (there, absent):
        found = shown[..., None].expand(x.shape[:4])
        origin, matrix = alignment(
            x * found[..., None], shown, found, LAYOUTS["coco"], facing="camera", size="body"
        )
        assert origin.isfinite().all() and matrix.isfinite().all()


def test_settings_are_checked() -> None:
    for name in ("root", "facing", "size"):
        with pytest.raises(SkelfewError, match=f"pipeline: {name} is 'no'; expected"):
            Pipeline(**{name: "no"})  # type: ignore[arg-type]
    old = {k: v for k, v in Pipeline().to_dict().items() if k not in ("root", "facing", "size")}
    assert Pipeline.from_dict(old, "a run from before") == Pipeline()
