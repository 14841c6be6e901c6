"""Random views: matrices of the reference, and draws without repetition."""

import json
from pathlib import Path

import torch

from skelfew.data.input.augment import rotation_matrix, sorted_draw, view_matrix


def test_rotation_is_the_references(golden: Path) -> None:
    expected = json.loads((golden / "feeder_ntu.json").read_text())["rot_xyz_0.1_-0.2_0.3"]
    matrix = rotation_matrix(torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64))
    torch.testing.assert_close(matrix, matrix.new_tensor(expected), atol=1e-7, rtol=0)


def test_view_is_the_references(golden: Path) -> None:
    expected = json.loads((golden / "feeder_ucla.json").read_text())["view_20_-35_1.3"]
    points = torch.sin(0.05 * torch.arange(9, dtype=torch.float64)).view(3, 3)
    turned = points @ view_matrix(torch.tensor([20.0, -35.0], dtype=torch.float64), 1.3)
    torch.testing.assert_close(turned, turned.new_tensor(expected), atol=1e-8, rtol=0)


def test_matrices_are_rotations_and_batched() -> None:
    angles = torch.randn(4, 5, 3, dtype=torch.float64)
    matrices = rotation_matrix(angles)
    eye = torch.eye(3, dtype=torch.float64).expand(4, 5, 3, 3)
    torch.testing.assert_close(matrices @ matrices.mT, eye)
    torch.testing.assert_close(matrices[2, 3], rotation_matrix(angles[2, 3]))
    assert (torch.linalg.det(matrices) > 0).all()


def test_sorted_draw_has_no_repetition_and_is_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    totals = torch.tensor([5, 8, 100]).repeat_interleave(4000)
    drawn = sorted_draw(totals, 5, generator)
    assert (drawn[:, 1:] > drawn[:, :-1]).all()
    assert (drawn >= 0).all() and (drawn < totals[:, None]).all()
    assert (drawn[:4000] == torch.arange(5)).all()
    share = torch.bincount(drawn[4000:8000].flatten(), minlength=8) / 4000
    torch.testing.assert_close(share, torch.full((8,), 5 / 8), atol=0.03, rtol=0)
