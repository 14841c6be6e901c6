"""One clip at a time: numbers of CTR-GCN's feeders, and the corner cases they do not have."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from skelfew.data.input import preprocess
from skelfew.data.joints.layouts import load_layout


def waves(frames: int, valid: int, step: float) -> Tensor:
    """Return the reference's input as (M, T, V, C): sines, zero from frame ``valid`` on."""
    flat = torch.arange(3 * frames * 25 * 2, dtype=torch.float64)
    data = torch.sin(step * flat).float().view(3, frames, 25, 2)
    data[:, valid:] = 0
    return data.permute(3, 1, 2, 0)


def number(value: int) -> Tensor:
    return torch.tensor(value)


@pytest.mark.parametrize("frames", [64, 16])
def test_central_crop_is_the_references(golden: Path, frames: int) -> None:
    expected = json.loads((golden / "feeder_ntu.json").read_text())[f"test_0.95_{frames}"]
    clip = waves(40, 33, 0.01)
    clip, _, count = preprocess.counted_frames(clip)
    assert count == 33
    start, length = preprocess.central_window(number(33))
    x = preprocess.crop_resize(clip, int(start), int(length), frames)
    assert x.shape == (2, frames, 25, 3)
    assert int(start) == expected.get("bias", 0)
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor(expected["x0v0m0"]), atol=1e-6, rtol=0)
    assert x.double().sum().item() == pytest.approx(expected["sum"], abs=2e-3)


def test_random_crop_is_the_references(golden: Path) -> None:
    expected = json.loads((golden / "feeder_ntu.json").read_text())["train_p0.7_bias3"]
    portion = torch.tensor(0.7, dtype=torch.float64)
    place = torch.tensor(3.5 / (110 - 77 + 1), dtype=torch.float64)
    start, length = preprocess.random_window(number(110), portion, place)
    assert (int(start), int(length)) == (3, 77)
    x = preprocess.crop_resize(waves(120, 110, 0.003), 3, 77, 64)
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor(expected["x0v0m0"]), atol=1e-6, rtol=0)
    assert x.double().sum().item() == pytest.approx(expected["sum"], abs=2e-3)


def test_windows_stay_inside() -> None:
    valid = torch.arange(1, 400)
    for portion in (0.5, 0.73, 1.0):
        for place in (0.0, 0.5, 1 - 1e-12):
            share = torch.full(valid.shape, portion, dtype=torch.float64)
            start, length = preprocess.random_window(valid, share, torch.full_like(share, place))
            assert ((start >= 0) & (length >= 1) & (start + length <= valid)).all()
            assert (length >= valid.clamp(max=64)).all()
    start, length = preprocess.central_window(valid)
    assert ((start >= 0) & (length >= 1) & (2 * start + length == valid)).all()


def test_ucla_test_form_is_the_references(golden: Path) -> None:
    expected = json.loads((golden / "feeder_ucla.json").read_text())["val"]
    clip = torch.sin(0.05 * torch.arange(30 * 20 * 3, dtype=torch.float64)).view(1, 30, 20, 3)
    root = load_layout("kinect-v1").root
    x = preprocess.fit_to_box(preprocess.centre(clip, root))
    x = x[:, preprocess.spread_frames(number(30), 52)]
    torch.testing.assert_close(
        x[0, :, 0, 0], torch.tensor(expected["c0v0"], dtype=torch.float64), atol=1e-9, rtol=0
    )
    assert x.sum().item() == pytest.approx(expected["sum"], abs=1e-6)
    assert x.abs().sum().item() == pytest.approx(expected["abs"], abs=1e-6)
    assert x.amin() == -1 and x.amax() == 1


def test_spread_frames_rounds_like_numpy() -> None:
    import numpy as np

    for total in range(1, 300):
        expected = np.linspace(0, total - 1, 52).astype(int).tolist()
        assert preprocess.spread_frames(number(total), 52).tolist() == expected


def test_centre_puts_the_first_seen_root_at_the_origin() -> None:
    clip = torch.rand(2, 5, 25, 3) + 1
    clip[0, :2] = 0  # the first body enters in frame 2
    clip[1, 4] = 0
    moved = preprocess.centre(clip, root=1)
    torch.testing.assert_close(moved[0, 2, 1], torch.zeros(3))
    torch.testing.assert_close(moved[1, 0] - moved[0, 2], clip[1, 0] - clip[0, 2])
    assert (moved[0, :2] == 0).all() and (moved[1, 4] == 0).all()


def test_centre_leaves_the_confidence() -> None:
    clip = torch.rand(1, 4, 17, 3) + 1
    moved = preprocess.centre(clip, root=0, coordinates=2)
    assert torch.equal(moved[..., 2], clip[..., 2])
    assert (moved[0, 0, 0, :2] == 0).all()


def test_centre_without_a_first_body_takes_the_second() -> None:
    clip = torch.rand(2, 3, 25, 3) + 1
    clip[0] = 0
    assert (preprocess.centre(clip, root=1)[1, 0, 1] == 0).all()
    assert (preprocess.centre(torch.zeros(1, 3, 25, 3), root=1) == 0).all()


@pytest.mark.parametrize("missing_body", preprocess.MISSING_BODY)
def test_align(missing_body: str) -> None:
    one = torch.rand(1, 4, 25, 3) + 1
    aligned = preprocess.align(one, 2, missing_body)
    assert torch.equal(aligned[0], one[0])
    assert torch.equal(aligned[1], one[0] if missing_body == "duplicate" else 0 * one[0])
    three = torch.rand(3, 4, 25, 3) + 1
    assert torch.equal(preprocess.align(three, 2, missing_body), three[:2])
    # A second body that the file announces but that is never there is missing too.
    empty = torch.cat([one, 0 * one])
    assert torch.equal(preprocess.align(empty, 2, missing_body), aligned)


def test_frames_that_count() -> None:
    """Empty ends go, short gaps are bridged between what both sides show, long ones are cut."""
    clip = torch.ones(2, 24, 25, 3)
    clip += torch.arange(24.0)[:, None, None]
    kept = [*range(3, 6), *range(6, 6 + preprocess.BRIDGED), *range(17, 20)]
    shown = [3, 4, 5, 11, 18, 19, 17]
    empty = torch.ones(24, dtype=torch.bool)
    empty[shown] = False
    clip[:, empty] = 0
    clip[1, 11] = 0  # the second body is on one side of the gap only
    closed, order, count = preprocess.counted_frames(clip)
    kept = [3, 4, 5, *range(6, 11), 11, *range(12, 17), 17, 18, 19]
    assert order[:count].tolist() == kept
    torch.testing.assert_close(closed[0, :count, 0, 0], torch.tensor(kept) + 1.0)
    assert not closed[1, 3:14].any() and not closed[:, count:].any()
    clip[:, 11] = 0  # now the gap is too long
    _, order, count = preprocess.counted_frames(clip)
    assert order[:count].tolist() == [3, 4, 5, 17, 18, 19]
    assert preprocess.counted_frames(0 * clip)[2] == 0


def test_fit_to_box_guards() -> None:
    clip = torch.rand(1, 4, 20, 3)
    clip[..., 1] = 7  # an axis without extent
    fitted = preprocess.fit_to_box(clip)
    assert (fitted[..., 1] == 0).all() and fitted.isfinite().all()
    assert fitted[..., 0].amin() == -1 and fitted[..., 0].amax() == 1
    absent = torch.cat([clip + 1, 0 * clip])
    assert torch.equal(preprocess.fit_to_box(absent)[1], 0 * clip[0])
    one_frame = torch.rand(1, 1, 20, 3)
    assert preprocess.fit_to_box(one_frame).abs().amax() == 1


def test_streams() -> None:
    layout = load_layout("kinect-v2")
    x = torch.rand(2, 5, 25, 3)
    bone = preprocess.stream(x, "bone", layout.parents)
    assert (bone[:, :, 20] == 0).all()
    torch.testing.assert_close(bone[:, :, 0], x[:, :, 0] - x[:, :, 1])
    moving = preprocess.stream(x, "joint_motion", layout.parents)
    assert (moving[:, -1] == 0).all()
    torch.testing.assert_close(moving[:, 2], x[:, 3] - x[:, 2])
    both = preprocess.stream(x, "bone_motion", layout.parents)
    torch.testing.assert_close(both, preprocess.motion(bone))


def test_streams_keep_the_confidence() -> None:
    layout = load_layout("coco")
    x = torch.rand(1, 5, 17, 3)
    for name in preprocess.STREAMS:
        assert torch.equal(preprocess.stream(x, name, layout.parents, 2)[..., 2], x[..., 2])
