"""Optimisers, groups and schedule."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from skelfew.config import OptimizerConfig
from skelfew.training.optim import (
    LARS,
    build_optimizer,
    learning_rate,
    parameter_groups,
    set_learning_rate,
)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_biases_and_batchnorm_do_not_decay_unless_asked() -> None:
    model = net()
    matrices, vectors = parameter_groups([(model, 1.0)], OptimizerConfig(weight_decay=0.5))
    assert [p.ndim for p in matrices["params"]] == [2, 2]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.5, 0.0)
    assert len(vectors["params"]) == 4
    (everything,) = parameter_groups([(model, 1.0)], OptimizerConfig(decay_all=True))
    assert len(everything["params"]) == 6


def test_a_part_has_its_own_rate_and_each_parameter_one_group() -> None:
    model = net()
    groups = parameter_groups([(model[2], 10.0), (model, 1.0)], OptimizerConfig())
    assert sum(len(g["params"]) for g in groups) == 6
    optimizer = build_optimizer(groups, OptimizerConfig())
    set_learning_rate(optimizer, 0.25)
    assert sorted({g["lr"] for g in optimizer.param_groups}) == [0.25, 2.5]


def test_frozen_parameters_are_left_out() -> None:
    model = net()
    model[0].requires_grad_(False)
    groups = parameter_groups([(model, 1.0)], OptimizerConfig())
    assert sum(len(g["params"]) for g in groups) == 4


def test_schedule_rises_and_falls() -> None:
    config = OptimizerConfig(lr=2.0, warmup=1.0)
    rates = [learning_rate(config, s, 30, 10) for s in range(30)]
    assert rates[:10] == pytest.approx([0.2 * (s + 1) for s in range(10)])
    assert rates[10] == 2.0
    assert rates[20] == pytest.approx(1.0)
    assert rates[29] == pytest.approx(1 + math.cos(math.pi * 19 / 20))
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_warmup_takes_half_of_a_short_run_at_most() -> None:
    config = OptimizerConfig(lr=1.0, warmup=10.0, schedule="constant")
    assert [learning_rate(config, s, 4, 2) for s in range(4)] == [0.5, 1.0, 1.0, 1.0]


def test_lars_step_is_a_share_of_the_weights_norm() -> None:
    model = nn.Linear(5, 4)
    before = model.weight.detach().clone()
    bias = model.bias.detach().clone()
    optimizer = LARS(model.parameters(), lr=1.0, momentum=0.0, trust=1e-2)
    (1000 * model(torch.randn(8, 5))).sum().backward()
    optimizer.step()
    moved = (model.weight.detach() - before).norm()
    torch.testing.assert_close(moved, 1e-2 * before.norm(), rtol=1e-5, atol=0)
    torch.testing.assert_close(model.bias.detach(), bias - model.bias.grad)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_steps_are_those_of_torch(name: str) -> None:
    ours, theirs = net(), net()
    config = OptimizerConfig(name, lr=0.05, weight_decay=0.1, decay_all=True)
    optimizer = build_optimizer(parameter_groups([(ours, 1.0)], config), config)
    reference: torch.optim.Optimizer
    if name == "sgd":
        reference = torch.optim.SGD(
            theirs.parameters(),
            lr=0.05,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=0.1,
        )
    else:
        kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        reference = kind(theirs.parameters(), lr=0.05, weight_decay=0.1)
    x = torch.randn(8, 3)
    for _ in range(5):
        for model, stepper in ((ours, optimizer), (theirs, reference)):
            stepper.zero_grad()
            model(x).square().sum().backward()
            stepper.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)


def test_training_does_not_load_the_compiler_of_torch() -> None:
    """It would be the longest part of the start of a run."""
    code = """
import sys, torch, skelfew.training.loop
from skelfew.config import OptimizerConfig
from skelfew.training.optim import build_optimizer, parameter_groups
model = torch.nn.Linear(2, 2)
optimizer = build_optimizer(parameter_groups([(model, 1.0)], OptimizerConfig()), OptimizerConfig())
model(torch.ones(1, 2)).sum().backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
optimizer.step()
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
