"""Batches made at once against the same clips made one by one, on synthetic and real skeletons."""

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from skelfew.data.input import augment, preprocess
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline, undeclared
from skelfew.data.joints.layouts import Layout, load_layout
from skelfew.data.store import Skeleton, SkeletonStore
from skelfew.data.store_writer import SkeletonStoreWriter
from skelfew.errors import SkelfewError

Clips = dict[str, np.ndarray]


def walk(
    bodies: int, frames: int, joints: int = 25, channels: int = 3, seed: int = 0
) -> np.ndarray:
    """Return a smooth random clip (M, T, V, C), metres away from the origin."""
    random = np.random.default_rng([seed, bodies, frames])
    steps = random.normal(0, 0.05, (bodies, frames, joints, channels)).cumsum(axis=1)
    return (steps + random.normal(2, 0.5, (bodies, 1, joints, channels))).astype(np.float32)


@pytest.fixture
def clips() -> Clips:
    """Clips of all kinds: one and two bodies, late, leaving, empty ones, a single frame."""
    late, gap = walk(2, 90), walk(2, 80, seed=1)
    late[0, :7] = 0
    gap[:, 30:36] = 0
    gap[1, 50:] = 0
    empty_second, empty_first = walk(2, 40), walk(2, 45)
    empty_second[1] = 0
    empty_first[0] = 0
    return {
        "one": walk(1, 103),
        "two": walk(2, 70),
        "late": late,
        "gap": gap,
        "empty second": empty_second,
        "empty first": empty_first,
        "three": walk(3, 33),
        "frame": walk(1, 1),
        "long": walk(1, 300),
        "short": walk(2, 2),
    }


def single(clip: np.ndarray, layout: Layout, pipeline: Pipeline, bodies: int) -> Tensor:
    """Return the test form of one clip (C, T, V, M), by the plain functions."""
    n = pipeline.coordinates
    x, _, count = preprocess.counted_frames(torch.from_numpy(clip[:bodies]), n)
    x = x[:, :count]
    x = preprocess.centre(preprocess.to_body_size(x) if n == 2 else x, layout.root, n)
    x = preprocess.align(x, bodies, pipeline.missing_body)
    if pipeline.kind == "ntu":
        start, length = preprocess.central_window(count, pipeline.test_interval)
        x = preprocess.crop_resize(x, int(start), int(length), pipeline.length)
    else:
        frames = preprocess.spread_frames(count, pipeline.length)
        x = preprocess.fit_to_box(x, n)[:, frames]
    x = preprocess.stream(x, pipeline.stream, layout.parents, n)
    return x.permute(3, 1, 2, 0)


@pytest.mark.parametrize("stream", preprocess.STREAMS)
@pytest.mark.parametrize("missing_body", preprocess.MISSING_BODY)
@pytest.mark.parametrize("kind", ["ntu", "ucla"])
def test_test_form_equals_one_by_one(
    clips: Clips, kind: str, missing_body: str, stream: str
) -> None:
    layout = load_layout("kinect-v2")
    pipeline = Pipeline(kind=kind, length=52, missing_body=missing_body, stream=stream)
    bank = SkeletonBank.from_clips(clips, layout, pipeline, bodies=2)
    order = torch.tensor([9, 0, 3, 3, 1, 2, 4, 5, 6, 7, 8])
    batch = bank.batch(order, train=False)
    assert batch.shape == (11, 3, 52, 25, 2) and batch.dtype == torch.float32
    names = list(clips)
    for x, row in zip(batch, order.tolist(), strict=True):
        expected = single(clips[names[row]], layout, pipeline, 2)
        # Differences of differences gather the rounding of four single-precision numbers.
        atol = 4e-6 if stream == "bone_motion" else 1e-6
        torch.testing.assert_close(x, expected, atol=atol, rtol=1e-6, msg=names[row])


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("kind", ["ntu", "ucla"])
def test_joints_in_pictures_equal_one_by_one(clips: Clips, kind: str, channels: int) -> None:
    layout, pipeline = load_layout("coco"), Pipeline(kind=kind, length=52, coordinates=2)
    random = np.random.default_rng(4)
    flat = {}
    for name, clip in clips.items():
        flat[name] = 100 * clip[:, :, :17, :channels]
        if channels == 3:
            there = clip.any(axis=(2, 3))[..., None]
            flat[name][..., 2] = there * random.uniform(0.1, 1, flat[name].shape[:3])
            lost = random.uniform(size=flat[name].shape[:3]) < 0.2
            lost[:, 0, layout.root] = True  # the root of the first frame among them
            flat[name][lost & there] = 0
    bank = SkeletonBank.from_clips(flat, layout, pipeline, bodies=2)
    batch = bank.batch(torch.arange(len(flat)), train=False)
    for x, (name, clip) in zip(batch, flat.items(), strict=True):
        expected = single(clip, layout, pipeline, 2)
        torch.testing.assert_close(x, expected, atol=2e-5, rtol=1e-5, msg=name)


def test_pictures_of_any_size_give_the_same_input() -> None:
    """Neither resolution nor place in the picture matters; an approach to the camera does."""
    layout, pipeline = load_layout("coco"), Pipeline(coordinates=2)
    clip = np.abs(walk(1, 50, 17))
    small, large = clip.copy(), clip.copy()
    small[..., :2] = 100 * clip[..., :2]
    large[..., :2] = 700 * clip[..., :2] + 300
    bank = SkeletonBank.from_clips({"a": small, "b": large}, layout, pipeline, bodies=1)
    x = bank.batch(torch.arange(2), train=False)
    torch.testing.assert_close(x[0], x[1], atol=1e-5, rtol=1e-4)
    assert 0.3 < x[0, :2].abs().amax() < 2
    nearer = small.copy()
    nearer[..., :2] *= np.linspace(1, 2, 50)[:, None, None]
    y = SkeletonBank.from_clips({"a": nearer}, layout, pipeline, bodies=1)
    assert (y.batch(torch.tensor([0]), train=False) - x[:1]).abs().amax() > 0.1


def test_pictures_are_tilted_and_stretched_in_training() -> None:
    layout = load_layout("coco")
    clip = np.abs(walk(1, 64, 17))
    still = np.repeat(clip[:, :1], 64, axis=1)
    still[0, :, 5] = 0  # a joint that is never found

    def drawn(**changes: float) -> Tensor:
        pipeline = Pipeline(coordinates=2, **changes)
        bank = SkeletonBank.from_clips({"a": still}, layout, pipeline, bodies=1)
        generator = torch.Generator().manual_seed(1)
        return bank.batch(torch.zeros(2, dtype=torch.int64), train=True, generator=generator)

    plain = drawn(rotation=0, stretch=0)
    tilted, stretched = drawn(stretch=0), drawn(rotation=0)
    assert torch.equal(plain[0], plain[1])
    for changed in (tilted, stretched):
        assert torch.equal(changed[:, 2], plain[:, 2]) and (changed[:, :, :, 5] == 0).all()
        assert (changed[0] - changed[1]).abs().amax() > 1e-3, "a draw for each clip"
    torch.testing.assert_close(tilted[:, :2].norm(dim=1), plain[:, :2].norm(dim=1))
    ratio = (stretched / plain)[:, :2].nan_to_num(1)
    assert 0.8 <= ratio.amin() < ratio.amax() <= 1.2


@pytest.mark.parametrize("kind", ["ntu", "ucla"])
def test_training_form_equals_one_by_one(clips: Clips, kind: str) -> None:
    """Draw what the bank draws, in its order, and apply it with the plain functions."""
    layout = load_layout("kinect-v2")
    pipeline = Pipeline(kind=kind)
    bank = SkeletonBank.from_clips(clips, layout, pipeline)
    order, n = torch.arange(len(clips)), len(clips)
    batch = bank.batch(order, train=True, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    ready = []
    for clip in clips.values():
        x, _, count = preprocess.counted_frames(torch.from_numpy(clip))
        ready.append(preprocess.align(preprocess.centre(x[:, :count], 1), 2))
    if kind == "ntu":
        portion, place = torch.rand(2, n, generator=generator, dtype=torch.float64)
        valid = torch.tensor([x.shape[1] for x in ready])
        starts, lengths = preprocess.random_window(valid, 0.5 + 0.5 * portion, place)
        angles = 0.6 * torch.rand(n, 3, generator=generator, dtype=torch.float64) - 0.3
        turns = augment.rotation_matrix(angles).float()
        for i, x in enumerate(ready):
            y = preprocess.crop_resize(x, int(starts[i]), int(lengths[i]), 64)
            y = torch.einsum("ij,mtvj->imtv", turns[i], y).permute(0, 2, 3, 1)
            torch.testing.assert_close(batch[i], y, atol=2e-6, rtol=1e-6, msg=bank.ids[i])
        return
    degrees = (torch.rand(n, 2, generator=generator, dtype=torch.float64) * 121).floor() - 60
    turns = augment.view_matrix(degrees).float()
    totals = torch.tensor([x.shape[1] for x in ready])
    frames = augment.sorted_draw(totals * 100, 64, generator) // 100
    for i, x in enumerate(ready):
        turned = torch.einsum("mtvi,ij->mtvj", x, turns[i])
        y = preprocess.fit_to_box(turned)[:, frames[i]].permute(3, 1, 2, 0)
        torch.testing.assert_close(batch[i], y, atol=1e-5, rtol=1e-5, msg=bank.ids[i])


def test_only_positions_are_turned() -> None:
    """With two coordinates and a confidence the latter is resampled and nothing else."""
    layout = load_layout("coco")
    clip = np.abs(walk(1, 50, 17))
    clip[..., 2] = 0.5
    for kind in ("ntu", "ucla"):
        pipeline = Pipeline(kind=kind, coordinates=2)
        bank = SkeletonBank.from_clips({"a": clip}, layout, pipeline, bodies=1)
        x = bank.batch(torch.tensor([0]), train=True)
        assert x.shape == (1, 3, 64, 17, 1)
        torch.testing.assert_close(x[:, 2], torch.full_like(x[:, 2], 0.5))
        flat = SkeletonBank.from_clips({"a": clip[..., :2]}, layout, pipeline, bodies=1)
        y = flat.batch(torch.tensor([0]), train=False)
        torch.testing.assert_close(y, bank.batch(torch.tensor([0]), train=False)[:, :2])


def test_unusable_samples_are_named(clips: Clips) -> None:
    layout, pipeline = load_layout("kinect-v2"), Pipeline()
    with pytest.raises(SkelfewError, match="'absent' has no frame with a skeleton"):
        absent = {**clips, "absent": 0 * walk(2, 5), "z": walk(1, 9)}
        SkeletonBank.from_clips(absent, layout, pipeline)
    broken = walk(2, 5)
    broken[1, 4, 24, 2] = np.nan
    with pytest.raises(SkelfewError, match="'broken' has a coordinate that is not a number"):
        SkeletonBank.from_clips({**clips, "broken": broken, "z": walk(1, 9)}, layout, pipeline)
    with pytest.raises(SkelfewError, match="layout kinect-v1 with 20 joints"):
        SkeletonBank.from_clips(clips, load_layout("kinect-v1"), pipeline)
    with pytest.raises(SkelfewError, match="'flat': expected bodies x frames"):
        SkeletonBank.from_clips({"flat": walk(1, 5)[0]}, layout, pipeline)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "ntu60"}, "kind is 'ntu60'; expected ntu, ucla"),
        ({"missing_body": "copy"}, "missing_body is 'copy'"),
        ({"stream": "velocity"}, "stream is 'velocity'"),
        ({"coordinates": 4}, "coordinates is 4"),
        ({"train_interval": (0.9, 0.5)}, "train_interval"),
        ({"test_interval": 0.0}, "test_interval"),
        ({"stretch": 1.0}, "stretch is 1.0"),
    ],
)
def test_impossible_pipelines(settings: dict, message: str) -> None:
    with pytest.raises(SkelfewError, match=message):
        Pipeline(**settings)


def test_pipeline_of_a_dataset() -> None:
    """The store's own, whatever it is called; by its name where it declares none."""
    ucla, ntu60 = {"kind": "ucla", "length": 52}, {"missing_body": "zeros"}
    for declared, name, right in (
        (ucla, "mine", ucla),
        (None, "nw-ucla", ucla),
        ({}, "nw-ucla", {}),
    ):
        assert Pipeline.for_data(declared, name) == Pipeline(**right)
        assert Pipeline.for_data(declared, name, length=32).length == 32
        assert (undeclared(declared, name) is None) == (declared is not None)
    assert Pipeline.for_data(None, "utd-mhad", length=None) == Pipeline()
    for declared, name in ((ntu60, "mine"), (None, "ntu60")):
        assert Pipeline.for_data(declared, name) == Pipeline()
        assert Pipeline.for_data(declared, name, missing_body="auto").missing_body == "zeros"
    assert Pipeline.for_data(None, "ntu120", missing_body="auto").missing_body == "duplicate"
    with pytest.raises(SkelfewError, match="preprocessing of mine: pipeline: kind is 'x'"):
        Pipeline.for_data({"kind": "x"}, "mine")
    one = Pipeline(kind="ucla", train_interval=(0.7, 0.9))
    assert Pipeline(**json.loads(json.dumps(one.to_dict()))) == one


def test_from_store_takes_the_asked_samples_in_order(tmp_path: Path, clips: Clips) -> None:
    path = tmp_path / "own.h5"
    with SkeletonStoreWriter(path, "kinect-v2", 25) as writer:
        for name, clip in clips.items():
            writer.append(name, Skeleton(clip))
    names = ["short", "one", "gap"]
    layout = load_layout("kinect-v2")
    with SkeletonStore(path) as store:
        some = SkeletonBank.from_store(store, names, Pipeline())
        every = SkeletonBank.from_store(store, list(store), Pipeline())
    assert some.ids == tuple(names) and some.bodies == 2 and some.layout == layout
    rows = torch.tensor([list(clips).index(name) for name in names])
    batch = some.batch(torch.arange(3), train=False)
    assert torch.equal(batch, every.batch(rows, train=False))
    gap = torch.from_numpy(np.delete(clips["gap"], range(30, 36), axis=1))
    expected = preprocess.align(preprocess.centre(gap, 1), 2)
    assert torch.equal(some.clip(2), expected)


def test_real_ucla(shared: Path) -> None:
    """All 1,484 clips: the odd ones are handled, and batches equal the plain form."""
    clips: Clips = {}
    with zipfile.ZipFile(shared / "data/nw-ucla/all_sqe.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                content = json.loads(archive.read(name))
                clip = np.asarray(content["skeletons"], dtype=np.float32)
                clips[Path(name).stem] = clip[None]
    layout, pipeline = load_layout("kinect-v1"), Pipeline(kind="ucla", length=52)
    bank = SkeletonBank.from_clips(clips, layout, pipeline, bodies=1)
    assert len(bank) == 1484 and bank.frames.tolist() == [c.shape[1] for c in clips.values()]
    generator = torch.Generator().manual_seed(0)
    for rows in torch.arange(len(bank)).split(256):
        x = bank.batch(rows, train=True, generator=generator)
        assert x.isfinite().all() and x.abs().amax() <= 1
    odd = ["a02_s09_e04_v02", "a02_s09_e04_v03", "a04_s01_e01_v01", "a04_s04_e02_v01"]
    chosen = [*odd, *list(clips)[::97]]
    index = torch.tensor([bank.ids.index(name) for name in chosen])
    for x, name in zip(bank.batch(index, train=False), chosen, strict=True):
        expected = single(clips[name], layout, pipeline, 1)
        torch.testing.assert_close(x, expected, atol=1e-6, rtol=0, msg=name)


def test_real_ntu(shared: Path) -> None:
    """A clip parsed here in a few lines: the spine starts at the origin, lengths are metres."""
    lines = (shared / "data/ntu/S001C001P001R001A001.skeleton").read_text().split("\n")
    joints = [line.split()[:3] for line in lines if len(line.split()) == 12]
    clip = np.array(joints, dtype=np.float32).reshape(1, -1, 25, 3)
    assert clip.shape[1] == 103
    layout = load_layout("kinect-v2")
    bank = SkeletonBank.from_clips({"A001": clip}, layout, Pipeline())
    x = bank.batch(torch.tensor([0]), train=False)
    torch.testing.assert_close(x[0], single(clip, layout, Pipeline(), 2), atol=1e-6, rtol=0)
    assert torch.equal(x[..., 0], x[..., 1])
    assert bank.clip(0)[0, 0, 1].abs().amax() == 0
    head_to_hip = (x[0, :, 0, 3, 0] - x[0, :, 0, 0, 0]).norm().item()
    assert 0.3 < head_to_hip < 1.2 and math.isfinite(x.sum().item())
