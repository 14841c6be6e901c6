"""The nearest boundary and the path integral, where the answer is known."""

import pytest
import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.explain.attribution import integrate
from skelfew.explain.boundary import NoBoundary, nearest_boundary


def linear(weights: Tensor, bias: Tensor) -> object:
    return lambda x: x.flatten(1) @ weights.T + bias


@pytest.fixture
def case() -> tuple[object, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 24, generator=draw, dtype=torch.float64)
    x = 2 + torch.randn(1, 2, 3, 4, generator=draw, dtype=torch.float64)
    return linear(weights, torch.tensor([0.3, -0.2, 0.1])), x, weights


def test_it_is_the_nearest_for_a_linear_decision(case: tuple) -> None:
    decide, x, weights = case
    found = nearest_boundary(decide, x, torch.ones_like(x, dtype=torch.bool), limit=5)
    logits = decide(x)[0]
    assert found.label == int(logits.argmax())
    distances = {
        j: float((logits[found.label] - logits[j]) / (weights[found.label] - weights[j]).norm())
        for j in range(3)
        if j != found.label
    }
    assert found.other == min(distances, key=distances.__getitem__)
    nearest = min(distances.values())
    assert nearest <= found.distance < 1.02 * nearest
    assert found.share == pytest.approx(found.distance / float(x.norm()))
    assert -1e-3 * found.margin <= found.beyond < 0
    assert int(decide(found.point)[0].argmax()) == found.other


def test_what_may_not_move_stays(case: tuple) -> None:
    decide, x, _ = case
    movable = torch.zeros_like(x, dtype=torch.bool)
    movable[:, 0, :2] = True
    found = nearest_boundary(decide, x, movable, limit=20)
    moved = found.point != x
    assert moved.any() and not (moved & ~movable).any()


def test_no_boundary_says_how_far_and_how_long(case: tuple) -> None:
    decide, x, _ = case
    everything = torch.ones_like(x, dtype=torch.bool)
    near = nearest_boundary(decide, x, everything, limit=5).share
    with pytest.raises(NoBoundary, match=r"within .* after 30 steps; raise --limit \(now") as given:
        nearest_boundary(decide, x, everything, steps=30, limit=near / 2)
    assert f"(now {near / 2:g})" in str(given.value) and "--steps (now 30)" in str(given.value)
    flat = linear(torch.zeros(2, 24, dtype=torch.float64), torch.tensor([1.0, 0.0]))
    with pytest.raises(NoBoundary, match="no gradient after 0 steps"):
        nearest_boundary(flat, x, everything)


@pytest.mark.parametrize("output", ["logit", "margin"])
def test_attributions_of_a_linear_decision_are_its_terms(case: tuple, output: str) -> None:
    decide, x, weights = case
    found = nearest_boundary(decide, x, torch.ones_like(x, dtype=torch.bool), limit=5)
    result = integrate(decide, x, found, output)
    row = weights[found.label] - (weights[found.other] if output == "margin" else 0)
    assert torch.allclose(result.values, (x - found.point) * row.view(x.shape), atol=1e-6)
    logits = decide(torch.cat([x, found.point]))
    rise = logits[0] - logits[1]
    expected = rise[found.label] - (rise[found.other] if output == "margin" else 0)
    assert result.rise == pytest.approx(float(expected))
    assert result.complete and result.points == 16
    assert float(result.values.sum()) == pytest.approx(result.rise, rel=0.01)
    with pytest.raises(SkelfewError, match="output is 'x'; expected logit or margin"):
        integrate(decide, x, found, "x")


def test_a_curved_path_takes_more_points() -> None:
    """A kink near the sample: 16 points miss the sum by more than one per cent."""
    x = torch.full((1, 1), 1.0, dtype=torch.float64)

    def decide(x: Tensor) -> Tensor:
        rise = torch.sigmoid((x - 0.9) * 300) + 0.5 * x
        return torch.cat([rise, torch.full_like(x, 0.3)], dim=1)

    found = nearest_boundary(decide, x, torch.ones_like(x, dtype=torch.bool), limit=1)
    result = integrate(decide, x, found)
    assert result.points > 16 and result.complete
