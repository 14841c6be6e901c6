"""Alignment over time and views against a plain dynamic program, and what the views are."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from skelfew.data.input.augment import turned
from skelfew.encoders import build_encoder
from skelfew.encoders.outputs import check_output, read
from skelfew.errors import SkelfewError
from skelfew.fewshot import build_head
from skelfew.fewshot.jeanie import view_alignment
from skelfew.fewshot.softdtw import frame_costs, soft_dtw


def softmin(values: list[Tensor], gamma: float) -> Tensor:
    return -gamma * torch.logsumexp(-torch.stack(values) / gamma, dim=0)


def plain(costs: Tensor, gamma: float) -> Tensor:
    """One pair, cell by cell: costs (T, S, A, B)."""
    rows, columns, yaws, pitches = costs.shape
    r: dict[tuple[int, int, int, int], Tensor] = {}
    for t, s in itertools.product(range(rows), range(columns)):
        for a, b in itertools.product(range(yaws), range(pitches)):
            came_from = [
                r[t - j, s - k, a - i, b - h]
                for j, k in ((0, 1), (1, 0), (1, 1))
                for i in (-1, 0, 1)
                for h in (-1, 0, 1)
                if (t - j, s - k, a - i, b - h) in r
            ]
            r[t, s, a, b] = costs[t, s, a, b]
            if came_from:
                r[t, s, a, b] = r[t, s, a, b] + softmin(came_from, gamma)
    ends = [r[rows - 1, columns - 1, a, b] for a in range(yaws) for b in range(pitches)]
    return softmin(ends, gamma)


@pytest.mark.parametrize("gamma", [0.01, 1.0])
@pytest.mark.parametrize("shape", [(4, 3, 3, 1), (2, 4, 1, 3), (3, 3, 3, 3), (1, 1, 3, 1)])
def test_equals_the_plain_dynamic_program(shape: tuple[int, ...], gamma: float) -> None:
    torch.manual_seed(0)
    costs = torch.rand(*shape, 2, dtype=torch.float64, requires_grad=True)
    values = view_alignment(costs, gamma)
    expected = torch.stack([plain(costs[..., i], gamma) for i in range(2)])
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)
    (grad,) = torch.autograd.grad(values.sum(), costs)
    (wanted,) = torch.autograd.grad(expected.sum(), costs)
    torch.testing.assert_close(grad, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.01, 0.1])
def test_one_view_is_soft_dtw_with_its_golden_numbers(golden: Path, gamma: float) -> None:
    data = json.loads((golden / "dastm.json").read_text())
    expected = data[f"cosine_gamma{gamma}_normFalse"]
    x, y, value, grad = (
        torch.tensor(v, dtype=torch.float64)
        for v in (data["x"], data["y"], expected["value"], expected["grad"])
    )
    x.requires_grad_()
    costs = frame_costs(x[:, None], y[:, None])
    found = view_alignment(costs[:, :, None, None], gamma)
    torch.testing.assert_close(found, soft_dtw(costs, gamma), rtol=0, atol=1e-12)
    torch.testing.assert_close(found, value, rtol=0, atol=4e-7)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(gradient, grad, rtol=0, atol=4e-8)


def test_hard_paths_may_change_the_view_by_one_at_a_step() -> None:
    """A cheap view that is out of reach is of no use."""
    costs = torch.ones(2, 2, 3, 1, 1, dtype=torch.float64)
    costs[0, 0, 0], costs[1, 1, 2] = 0, 0  # two views apart, one step of the diagonal
    costs[1, 1, 1] = 0.25
    assert float(view_alignment(costs, 1e-4)) == pytest.approx(0.25, abs=1e-3)
    longer = torch.ones(3, 3, 3, 1, 1, dtype=torch.float64)
    longer[0, 0, 0], longer[1, 1, 1], longer[2, 2, 2] = 0, 0, 0
    assert float(view_alignment(longer, 1e-4)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("prototype", ["mean", "nearest"])
def test_the_head_pair_by_pair(prototype: str) -> None:
    torch.manual_seed(0)
    settings = {"yaws": 3, "pitches": 3, "prototype": prototype, "gamma": 0.1, "cost": "euclidean"}
    head = build_head("jeanie", settings)
    query = torch.rand(2, 2, 9, 3, 5, dtype=torch.float64)
    support = torch.rand(2, 4, 9, 3, 5, dtype=torch.float64)
    logits = head(support, query, 2)
    for e, m, c in itertools.product(range(2), range(2), range(2)):
        own = support[e, 2 * c : 2 * c + 2, 4]
        rows = own.mean(dim=0, keepdim=True) if prototype == "mean" else own
        values = []
        for row in rows:
            costs = (query[e, m][:, :, None] - row[None, None]).square().sum(-1)  # (9, T, S)
            values.append(plain(costs.permute(1, 2, 0).unflatten(-1, (3, 3)), 0.1) / 3)
        torch.testing.assert_close(logits[e, m, c], -torch.stack(values).min(), rtol=0, atol=1e-9)


def test_the_views_are_turned_from_the_skeleton_itself() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 15, 2, dtype=torch.float64)
    x[1, ..., 1] = 0
    views = turned(x, 5, 3, 10.0)
    assert views.shape == (2, 15, 3, 8, 15, 2)
    torch.testing.assert_close(views[:, 7], x)
    assert not views[1, ..., 1].any()
    torch.testing.assert_close(views.norm(dim=2), x.norm(dim=1)[:, None].expand(-1, 15, -1, -1, -1))
    up = torch.zeros(1, 3, 1, 1, 1, dtype=torch.float64)
    up[0, 1] = 1
    heights = turned(up, 1, 5, 10.0)[0, :, 1].flatten()
    expected = [math.cos(math.radians(10 * abs(i))) for i in range(-2, 3)]
    assert heights.tolist() == pytest.approx(expected)
    assert turned(up, 5, 1, 10.0)[0, :, 1].flatten().tolist() == pytest.approx([1.0] * 5)


@pytest.mark.parametrize("train", [True, False])
def test_what_the_encoder_gives_of_the_views(train: bool) -> None:
    torch.manual_seed(0)
    encoder = build_encoder("ctrgcn", "joints-15", bodies=1, width=0.125).train(train)
    x = torch.randn(2, 3, 16, 15, 1)
    head = build_head("jeanie", {"yaws": "3", "degrees": "20"})
    assert head.reads == "views:3x1:20"
    features = read(encoder, x, head.reads)
    assert features.shape == (2, 3, 4, encoder.feature_dim)
    if not train:
        torch.testing.assert_close(features[:, 1], read(encoder, x, "frames"))
        assert not torch.allclose(features[:, 0], features[:, 1])


def test_what_cannot_be_is_refused() -> None:
    for settings, message in (
        ({"yaws": 4}, "yaws is 4; it must be odd"),
        ({"pitches": 33}, "31 at most"),
        ({"degrees": 0.0}, "degrees is 0.0"),
        ({"gamma": 0.0}, "gamma is 0.0"),
        ({"cost": "l1"}, "cost is 'l1'"),
    ):
        with pytest.raises(SkelfewError, match=message):
            build_head("jeanie", settings)
    with pytest.raises(SkelfewError, match=r"2D.*use soft-dtw"):
        check_output("views:3x1:15", 2)
    with pytest.raises(SkelfewError, match="joints of 2 coordinates"):
        turned(torch.zeros(1, 2, 4, 15, 1), 3, 1, 15.0)
