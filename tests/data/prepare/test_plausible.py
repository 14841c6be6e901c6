"""Real recordings pass without a word; the same ones under wrong declarations do not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from real_recordings import read_some

from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest
from skelfew.data.prepare.plausible import Survey, unlike_videos
from skelfew.predict.recordings import read_clips

KINECT = load_layout("kinect-v1")


def findings(clips: list[np.ndarray], layout: str = "kinect-v1", coordinates: int = 3) -> list[str]:
    survey = Survey(load_layout(layout), coordinates)
    for i, clip in enumerate(clips):
        clip = clip if clip.ndim == 4 else clip[None]
        survey.add(f"s{i}", np.ascontiguousarray(clip, dtype=np.float32))
    return survey.findings()


@pytest.fixture(scope="module")
def real(shared: Path) -> list[np.ndarray]:
    return [item.skeleton.positions for item in read_some(shared, "utd-mhad", 20)]


@pytest.mark.parametrize("data_set", ["utd-mhad", "nw-ucla"])
def test_whole_real_sets_are_plausible(shared: Path, data_set: str) -> None:
    assert findings([item.skeleton.positions for item in read_some(shared, data_set)]) == []


def test_ntu_and_pku_are_plausible(shared: Path) -> None:
    layout = load_layout("kinect-v2")
    ntu = sorted((shared / "data/ntu").glob("*.skeleton"))
    for paths in (ntu, [shared / "data/pku-mmd/A10N08-L.txt.gz"]):
        clips = [clip.positions for path in paths for clip in read_clips(path, layout)]
        assert findings(clips, "kinect-v2") == []


def project(clip: np.ndarray) -> np.ndarray:
    return np.array([270, -270]) * clip[..., :2] / np.maximum(clip[..., 2:], 0.5) + [160, 120]


def ordered(*joints: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda clip: clip[:, :, [KINECT.joints.index(j) for j in joints]]


def exchanged(one: str, other: str) -> Callable[[np.ndarray], np.ndarray]:
    swap = {one: other, other: one}
    return ordered(*(swap.get(j, j) for j in KINECT.joints))


def sides(clip: np.ndarray) -> np.ndarray:
    order = np.arange(20)
    for left, right in KINECT.mirror:
        order[[left, right]] = right, left
    return clip[:, :, order]


def tilted(degrees: float) -> np.ndarray:
    turn = np.deg2rad(degrees)
    return np.array([[1, 0, 0], [0, np.cos(turn), np.sin(turn)], [0, -np.sin(turn), np.cos(turn)]])


def with_joint(value: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    def change(clip: np.ndarray) -> np.ndarray:
        clip = clip.copy()
        clip[:, :, 5] = value(clip[:, :, 5])
        return clip

    return change


# Connections of MSR Action3D's joints, as its authors draw them: shoulders first, head last.
MSR = ordered(
    *[
        "left_shoulder",
        "right_shoulder",
        "shoulder_centre",
        "spine",
        "left_hip",
        "right_hip",
        "hip_centre",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hand",
        "right_hand",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
        "left_foot",
        "right_foot",
        "head",
    ]
)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (MSR, "another joint order: MSR Action3D"),
        (lambda c: c[:, :, np.random.default_rng(0).permutation(20)], "another joint order: 1"),
        (exchanged("left_elbow", "left_wrist"), "order: left_elbow and left_wrist exchanged"),
        (exchanged("right_knee", "left_knee"), "exchanged"),
        (sides, "left and right joints exchanged"),
        (lambda c: 1000 * c, "millimetres"),
        (lambda c: 100 * c, "centimetres"),
        (lambda c: c / 30, "scaled coordinates"),
        (
            lambda c: c[..., [0, 2, 1]] * [1, -1, 1],
            "along z: looks like swapped axes; --option up=z",
        ),
        (lambda c: c[..., [1, 0, 2]] * [-1, 1, 1], "--option up=-x"),
        (lambda c: c @ tilted(-40), "bodies lean by 4"),
        (lambda c: c @ tilted(42), "bodies lean by"),
        (
            lambda c: c[:, np.random.default_rng(0).permutation(c.shape[1])],
            "frames in a wrong order",
        ),
        (lambda c: c * [1, 1, 0], "no extent along z: looks like 2D joints"),
        (lambda c: 2 * (c - c.min((0, 1, 2))) / np.ptp(c, axis=(0, 1, 2)) - 1, "fills a box"),
        (lambda c: 39.4 * c, "inches"),
        (lambda c: 3.28 * c, "feet"),
        (lambda c: c[..., [1, 0, 2]], "along x: looks like swapped axes"),
        (lambda c: c[..., [2, 1, 0]], "mirrored coordinates"),
        (lambda c: c * [1, -1, 1], "y axis that points down"),
        (lambda c: (c - c.min()) / np.ptp(c), "between 0 and 1"),
        (with_joint(lambda x: 0 * x), "never move while others do: left_elbow"),
        (with_joint(lambda x: 0 * x + 0.7), "never move while others do: left_elbow"),
        (with_joint(lambda x: 0 * x + 1e-5 * np.sin(x)), "never move while others do: left_elbow"),
        (with_joint(lambda x: np.add(x, [0.5, 0.2, 0])), "looks like"),
        (lambda c: c[:, :1].repeat(9, axis=1), "nothing moves"),
        (lambda c: np.concatenate([0 * c, 0 * c, c], axis=1), "show no person"),
        (lambda c: c * np.linspace(0.5, 4, c.shape[1])[:, None, None], "change their length"),
    ],
)
def test_wrong_declarations_are_found(
    real: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray], cause: str
) -> None:
    assert any(cause in finding for finding in findings([change(clip) for clip in real]))


@pytest.mark.parametrize("joint", [0, 1, 3])
def test_joints_from_one_of_them_are_plausible(real: list[np.ndarray], joint: int) -> None:
    """Given from hips, shoulders or head: that joint rests at the origin in each frame."""
    assert findings([clip - clip[:, :, joint, None] for clip in real]) == []


def test_some_among_many(real: list[np.ndarray]) -> None:
    """Samples in another unit, and equal ones, are named."""
    assert "another unit: 2: s0, s1" in findings([1000 * real[0], 1000 * real[1], *real[2:]])[0]
    assert findings([*real, real[3]]) == [], "some sets have a few"
    assert "equal skeletons: 44: s0 = s44" in findings(2 * real)[0]
    survey = Survey(KINECT, 3)
    for i, clip in enumerate([*real, real[3]]):
        survey.add(f"s{i}", clip, i // 40)
    assert survey.findings() == ["samples of different classes have equal skeletons: s3 = s44"]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda c: c, None),
        (lambda c: c[:, :, ::-1], "another joint order"),
        (lambda c: c * [1, -1], "y axis that points up"),
        (lambda c: c[..., ::-1], "turned pictures or swapped axes"),
        (lambda c: c / 320, "shares of the picture"),
    ],
)
def test_pictures(
    real: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray], cause: str | None
) -> None:
    found = findings([change(project(clip)) for clip in real], coordinates=2)
    assert found == [] if cause is None else any(cause in finding for finding in found)


def test_confidence(real: list[np.ndarray]) -> None:
    flat = [project(clip) for clip in real]
    for value, cause in ((0.9, None), (0.1, "median confidence of the joints is 0.10")):
        clips = [np.concatenate([c, 0 * c[..., :1] + value], axis=-1) for c in flat]
        found = findings(clips, coordinates=2)
        assert found == [] if cause is None else cause in found[0]
    for clip in clips:
        clip[:, :, 12:] = 0
    assert any("40% of the joints were not found" in f for f in findings(clips, coordinates=2))


def test_videos_of_another_length(shared: Path) -> None:
    pytest.importorskip("av")
    folder = shared / "data/utd-mhad/depth_video"
    items = list(read_some(shared, "utd-mhad", 200))
    names = sorted(path.name for path in folder.glob("*.mp4"))

    def manifest(*shares: float) -> Manifest:
        return Manifest(
            "utd",
            tuple(
                replace(
                    item.sample,
                    video=next(n for n in names if n.startswith(item.sample.sample_id)),
                    end_frame=round(shares[i % len(shares)] * item.sample.frames),
                )
                for i, item in enumerate(items)
            ),
        )

    assert unlike_videos(manifest(1), folder) == unlike_videos(manifest(0.95), folder) == []
    assert unlike_videos(manifest(0.5), None) == unlike_videos(manifest(0.5), folder, "video") == []
    assert unlike_videos(manifest(0.3, 0.4, 0.5, 0.6, 0.7), folder) == []  # segments
    for share, ratio in ((0.5, "2"), (1.25, "0.8")):
        (found,) = unlike_videos(manifest(share), folder)
        assert (
            f"video_step={ratio}" in found and f"{len(items)}: {items[0].sample.sample_id}" in found
        )
