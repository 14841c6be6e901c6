"""Views of skeletons: AimCLR's golden numbers, and what each transformation must do."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from skelfew.data.input import views
from skelfew.data.input.augment import rotation_matrix
from skelfew.data.joints.layouts import LAYOUTS


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(n: int = 4, frames: int = 12, joints: int = 25) -> Tensor:
    return torch.randn(n, 3, frames, joints, 2, generator=generator(), dtype=torch.float64)


def sine(*shape: int, step: float = 0.01) -> Tensor:
    return torch.sin(step * torch.arange(math.prod(shape), dtype=torch.float64)).view(shape)


def test_shear_equals_aimclr(golden: Path) -> None:
    reference = json.loads((golden / "aimclr.json").read_text())["shear"]
    x = sine(3, 48, 25, 2)[None]
    drawn = torch.tensor([[[0.1, -0.2, 0.3]], [[0.4, -0.5, 0.25]]], dtype=torch.float64)
    out = views.transformed(x, views.shear_matrix(*drawn), 3)
    assert float(out.sum()) == pytest.approx(reference["sum"], abs=1e-9)
    assert out[0, :, 0, 0, 0].tolist() == pytest.approx(reference["first"], abs=1e-9)


def test_temporal_crop_equals_aimclr(golden: Path) -> None:
    reference = json.loads((golden / "aimclr.json").read_text())["temporal_crop_start5"]
    x = sine(3, 48, 25, 2)[None]
    out = views.reflected_crop(x, torch.tensor([5]))
    assert out[0, 0, :, 0, 0].tolist() == pytest.approx(reference["c0v0m0"], abs=1e-9)
    torch.testing.assert_close(views.reflected_crop(x, torch.tensor([8])), x)


def test_a_crop_of_everything_is_the_clip() -> None:
    x = clips()
    everything = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(views.crop_resize(x, everything, everything), x)
    # A quarter at the end, from a ramp in time: half-pixel centres, ends clamped.
    ramp = torch.arange(8.0, dtype=torch.float64).view(1, 1, 8, 1, 1)
    part = views.crop_resize(ramp, everything[:1] / 4, everything[:1])
    expected = [5.625, 5.875, 6.125, 6.375, 6.625, 6.875, 7.0, 7.0]
    assert part.flatten().tolist() == pytest.approx(expected)


def test_turns_are_of_the_angle_and_keep_lengths() -> None:
    x, angles = clips(), torch.tensor([[0.1, 2.0, -0.3]] * 4, dtype=torch.float64)
    out = views.turned(x, angles, 3)
    torch.testing.assert_close(out.norm(dim=1), x.norm(dim=1))
    point = rotation_matrix(angles[0]) @ x[0, :, 5, 7, 1]
    torch.testing.assert_close(out[0, :, 5, 7, 1], point)


def test_pictures_stay_in_the_picture_and_confidences_as_they_are() -> None:
    x, angles = clips(), torch.tensor([[1.0, 1.0, math.pi / 2]] * 4, dtype=torch.float64)
    out = views.turned(x, angles, 2)
    torch.testing.assert_close(out[:, 2], x[:, 2])
    torch.testing.assert_close(out[:, :2].norm(dim=1), x[:, :2].norm(dim=1))
    everybody = torch.ones(4, dtype=torch.bool)
    for changed in (
        views.sheared(x, 0.5, 2, generator()),
        views.noisy(x, 0.1, everybody, 2, generator()),
        views.smoothed(x, torch.ones(4), everybody, 2),
    ):
        assert torch.equal(changed[:, 2], x[:, 2])
        assert not torch.allclose(changed[:, :2], x[:, :2])


def test_left_and_right_change_places_as_in_aimclr() -> None:
    x, which = clips(2), torch.tensor([True, False])
    order = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21]
    order.append(22)  # its transform_order['ntu']
    pairs = LAYOUTS["kinect-v2"].mirror
    out = views.swapped(x, pairs, which)
    assert torch.equal(out[0], x[0][:, :, order])
    assert torch.equal(out[1], x[1])
    mirrored = views.swapped(x, pairs, which, reflect=True)
    assert torch.equal(mirrored[0, 0], -out[0, 0])
    assert torch.equal(mirrored[0, 1:], out[0, 1:])


def test_smoothing_is_a_convolution_that_is_not_normalised() -> None:
    x = torch.zeros(2, 3, 31, 1, 1, dtype=torch.float64)
    x[:, :, 15] = 1
    out = views.smoothed(x, torch.tensor([0.1, 2.0]), torch.tensor([True, True]), 3)
    torch.testing.assert_close(out[0], x[0])
    expected = torch.exp(-(torch.arange(-7, 8, dtype=torch.float64) ** 2) / 8)
    torch.testing.assert_close(out[1, 0, 8:23, 0, 0], expected)
    assert float(out[1, 0].sum()) == pytest.approx(2 * math.sqrt(2 * math.pi), rel=1e-3)


def test_what_is_absent_stays_absent() -> None:
    x = clips()
    x[..., 1] = 0  # an empty second slot
    x[:, :, 3] = 0
    out = views.noisy(x, 0.5, torch.ones(4, dtype=torch.bool), 3, generator())
    assert not out[..., 1].any()
    assert not out[:, :, 3].any()
    added = (out - x)[:, :, [0, 1, 2], :, 0]
    assert float(added.std()) == pytest.approx(0.5, rel=0.1)


def test_masks() -> None:
    x = clips(2)
    out = views.without_axis(x, torch.tensor([1, 2]), torch.tensor([True, False]))
    assert not out[0, 1].any()
    assert torch.equal(out[0, [0, 2]], x[0, [0, 2]])
    assert torch.equal(out[1], x[1])
    gone = (views.without_frames(x, 0.25, torch.tensor([0.0, 1.0])) == 0).all(dim=(1, 3, 4))
    assert gone.nonzero().tolist() == [[0, 0], [0, 1], [0, 2], [1, 9], [1, 10], [1, 11]]
    many = views.without_joints(torch.ones(200, 1, 2, 25, 1), 0.15, generator())
    assert torch.equal(many[:, :, 0], many[:, :, 1])
    assert float((many == 0).float().mean()) == pytest.approx(0.15, abs=0.02)
    assert torch.equal(views.reversed_in_time(x, torch.tensor([True, False]))[0], x[0].flip(1))
