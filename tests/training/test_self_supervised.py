"""Strategies without labels or teacher: Skeleton_BYOL and AimCLR, equation by equation."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Sample
from skelfew.encoders import build_encoder
from skelfew.training.data import _performances
from skelfew.training.stages.aimclr import (
    MomentumContrast,
    agreement_loss,
    attention_drop,
    contrast_logits,
    contrast_loss,
    extreme_view,
    normal_view,
    positives,
)
from skelfew.training.stages.infonce import infonce_loss
from skelfew.training.stages.skeleton_byol import (
    TwoViewBYOL,
    aggressive,
    conservative,
    rising_decay,
)

LAYOUT = load_layout("kinect-v2")


def unit(*shape: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=draw, dtype=torch.float64), dim=-1)


# InfoNCE


@pytest.mark.parametrize("same_class", ["negative", "mask", "positive"])
def test_infonce_is_what_its_sum_says(same_class: str) -> None:
    cosines, labels = unit(5, 5), torch.tensor([0, 1, 0, 2, 0])
    found = infonce_loss(cosines, labels, 0.2, same_class)
    for i in range(5):
        others = [j for j in range(5) if same_class != "mask" or j == i or labels[j] != labels[i]]
        right = [
            j for j in range(5) if j == i or (same_class == "positive" and labels[j] == labels[i])
        ]
        total = sum(math.exp(float(cosines[i, j]) / 0.2) for j in others)
        expected = [-math.log(math.exp(float(cosines[i, j]) / 0.2) / total) for j in right]
        assert float(found[i]) == pytest.approx(sum(expected) / len(expected))


# Skeleton_BYOL


class Flat(nn.Module):
    """A linear map of the flattened skeleton."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(24, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


def test_byol_decay_rises_to_one() -> None:
    assert rising_decay(0.996, 0, 10) == pytest.approx(0.996)
    assert rising_decay(0.996, 5, 10) == pytest.approx(0.998)
    assert rising_decay(0.996, 10, 10) == pytest.approx(1.0)


def test_byol_target_is_a_moving_average_without_gradient() -> None:
    torch.manual_seed(0)
    module = TwoViewBYOL(Flat(), 6, 16, 8)
    x = torch.randn(10, 3, 4, 2, 1)
    assert torch.equal(module.target_encoder.layer.weight, module.encoder.layer.weight)
    loss = (2 - 2 * (module.predict(x) * module.target(x)).sum(-1)).mean()
    loss.backward()
    slow = [*module.target_encoder.parameters(), *module.target_projector.parameters()]
    assert all(p.grad is None for p in slow)
    assert module.encoder.layer.weight.grad.abs().sum() > 0
    before = module.target_encoder.layer.weight.clone()
    with torch.no_grad():
        module.encoder.layer.weight.add_(1)
    module.update_target(0.75)
    torch.testing.assert_close(module.target_encoder.layer.weight, before + 0.25)


def test_cameras_of_one_performance_are_known() -> None:
    def sample(name: str, **values: str) -> Sample:
        return Sample(name, 1, "wave", 10, **values)

    same = {"subject": "1", "replication": "1"}
    numbers = _performances(
        [
            sample("a", view="1", **same),
            sample("b", view="2", **same),
            sample("c", view="1", subject="2", replication="1"),
            sample("d", subject="1", replication="1"),  # no camera is known
            sample("e"),
            Sample("f", 2, "kick", 10, view="1", **same),
        ]
    )
    assert numbers.tolist() == [0, 0, 1, 2, 3, 4]


def test_both_pipelines_keep_the_shape_and_what_is_absent() -> None:
    x = torch.randn(6, 3, 20, 25, 2, generator=torch.Generator().manual_seed(0))
    x[..., 1] = 0
    draw = torch.Generator().manual_seed(1)
    made = {
        "conservative": conservative(x, 3, draw),
        "aggressive": aggressive(x, LAYOUT.mirror, 3, draw),
        "normal": normal_view(x, 3, draw),
        "extreme": extreme_view(x, LAYOUT.mirror, 3, draw, time_flip=True),
    }
    for name, view in made.items():
        assert view.shape == x.shape, name
        assert view.dtype == x.dtype, name
        assert not view[..., 1].any(), name
        assert not torch.allclose(view, x), name
    # Mild is milder than strong.
    distance = {name: float((view - x)[..., 0].norm()) for name, view in made.items()}
    assert distance["conservative"] < distance["aggressive"]


# AimCLR


def test_attention_drop_equals_aimclr(golden: Path) -> None:
    reference = json.loads((golden / "aimclr.json").read_text())["simam_drop_keep0.7"]
    x = torch.sin(0.05 * torch.arange(2 * 4 * 6 * 25, dtype=torch.float64)).view(2, 4, 6, 25)
    out = attention_drop(x, 0.7)
    assert int((out != 0).sum()) == reference["nonzero"]
    assert float(out.sum()) == pytest.approx(reference["out_sum"], abs=1e-8)
    torch.testing.assert_close(attention_drop(x, 1.0), x)


def test_contrast_is_the_cross_entropy_with_the_own_key_first() -> None:
    queries, keys, queue = unit(4, 8), unit(4, 8, seed=1), unit(10, 8, seed=2)
    logits = contrast_logits(queries, keys, queue, 0.07)
    assert logits.shape == (4, 11)
    torch.testing.assert_close(logits[2, 0], queries[2] @ keys[2] / 0.07)
    torch.testing.assert_close(logits[1, 4], queries[1] @ queue[3] / 0.07)
    found = contrast_loss(logits, positives(logits, (), mining=False))
    torch.testing.assert_close(found, F.cross_entropy(logits, torch.zeros(4, dtype=torch.long)))


def test_mining_adds_the_nearest_key_of_every_view() -> None:
    plain = torch.tensor([[9.0, 1, 5, 2, 0], [0.0, 1, 2, 3, 4]])
    far = torch.tensor([[9.0, 8, 5, 2, 0], [0.0, 1, 2, 3, 4]])
    chosen = positives(plain, (far,), mining=True)
    assert chosen.tolist() == [[True, True, True, False, False], [True, False, False, False, True]]
    chances = F.log_softmax(plain, dim=1)
    expected = -(chances[0, :3].mean() + chances[1, [0, 4]].mean()) / 2
    torch.testing.assert_close(contrast_loss(plain, chosen), expected)


def test_agreement_is_a_cross_entropy_without_gradient_into_the_guide() -> None:
    guide = unit(3, 6).requires_grad_()
    logits = unit(3, 6, seed=1).requires_grad_()
    loss = agreement_loss(logits, guide)
    expected = -(guide.softmax(1) * logits.softmax(1).log()).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert guide.grad is None
    assert logits.grad is not None


def network(queue: int = 10, body_pool: str = "mean") -> MomentumContrast:
    torch.manual_seed(0)
    encoder = build_encoder("agcn", LAYOUT, bodies=2, width=0.125, body_pool=body_pool)
    return MomentumContrast(encoder, 8, queue, decay=0.75)


def test_the_queue_goes_round() -> None:
    module = network()
    keys = unit(4, 8).float()
    before = module.queue.clone()
    module.remember(keys)
    assert torch.equal(module.queue[:4], keys)
    assert torch.equal(module.queue[4:], before[4:])
    module.remember(-keys)
    module.remember(2 * keys)
    assert torch.equal(module.queue[8:], 2 * keys[:2])
    assert torch.equal(module.queue[:2], 2 * keys[2:])
    assert int(module.place) == 2
    module.remember(unit(13, 8, seed=3).float())  # more than it holds: the last ones
    assert int(module.place) == 2
    assert {"queue", "place", "key_head.0.weight"} <= set(module.state_dict())


@pytest.mark.parametrize("body_pool", ["mean", "masked_mean"])
def test_keys_follow_queries_and_the_drop_shares_their_pass(body_pool: str) -> None:
    module = network(body_pool=body_pool).eval()
    x = torch.randn(3, 3, 8, 25, 2, generator=torch.Generator().manual_seed(0))
    x[1, ..., 1] = 0
    plain, thinned = module.dropped(x, 0.7)
    torch.testing.assert_close(plain, module.query(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(plain, module.key(x), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain, thinned, atol=1e-3)
    before = module.key_head[0].weight.clone()
    with torch.no_grad():
        module.head[0].weight.add_(1)
    module.update_keys()
    torch.testing.assert_close(module.key_head[0].weight, before + 0.25)
    assert not any(p.requires_grad for p in module.key_encoder.parameters())


def test_contrast_learns_to_find_its_own_key() -> None:
    torch.manual_seed(0)
    encoder = Flat()
    encoder.feature_dim = 6  # type: ignore[assignment]
    module = MomentumContrast(encoder, 8, 48, decay=0.99)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    draw = torch.Generator().manual_seed(1)
    samples = torch.randn(64, 3, 4, 2, 1, generator=draw)
    losses = []
    for step in range(120):
        x = samples[16 * (step % 4) :][:16]
        one, other = (x + 0.1 * torch.randn(x.shape, generator=draw) for _ in range(2))
        query = module.query(one)
        module.update_keys()
        keys = module.key(other)
        # From the fourth step on the queue holds the keys of the other three batches.
        logits = contrast_logits(query, keys, module.queue.clone(), 0.2)
        loss = contrast_loss(logits, positives(logits, (), mining=False))
        module.remember(keys)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-4:]) < 0.8 * sum(losses[4:8])
