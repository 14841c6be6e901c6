"""Optimisers, their parameter groups and the learning-rate schedule."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from skelfew.config import OptimizerConfig


class LARS(Optimizer):
    """SGD whose step is scaled, matrix by matrix, to the norm of the weights (You et al., 2017).

    Vectors (biases, BatchNorm) get the plain step, as in BYOL.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        momentum: Of the scaled gradient.
        weight_decay: L2, part of what is scaled.
        trust: Length of a step as a share of the weights' norm, at learning rate 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ):
        super().__init__(
            params,
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move the parameters once; ``closure`` is not used."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                step = p.grad.add(p, alpha=group["weight_decay"])
                if p.ndim > 1:
                    weight, length = p.norm(), step.norm()
                    scaled = group["trust"] * weight / length
                    step = step * torch.where((weight > 0) & (length > 0), scaled, 1.0)
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                velocity = state["momentum_buffer"]
                velocity.mul_(group["momentum"]).add_(step)
                p.sub_(velocity, alpha=group["lr"])


def parameter_groups(
    parts: Sequence[tuple[nn.Module, float]], config: OptimizerConfig
) -> list[dict[str, Any]]:
    """Return optimiser groups with ``lr_factor`` and ``weight_decay``.

    Args:
        parts: Modules and the factors on their learning rates. A parameter belongs to the first
            module it is met in; those without gradient are left out.
        config: Its ``decay_all`` says whether biases and BatchNorm weights decay.
    """
    seen: set[int] = set()
    groups = []
    for module, factor in parts:
        matrices: list[Tensor] = []
        vectors: list[Tensor] = []
        for p in module.parameters():
            if p.requires_grad and id(p) not in seen:
                seen.add(id(p))
                (matrices if p.ndim > 1 or config.decay_all else vectors).append(p)
        for params, decay in ((matrices, config.weight_decay), (vectors, 0.0)):
            if params:
                groups.append({"params": params, "lr_factor": factor, "weight_decay": decay})
    return groups


def build_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> Optimizer:
    """Return the optimiser; ``set_learning_rate`` gives every group its rate before a step."""
    lr, momentum = config.lr, config.momentum
    if config.name == "adam":
        return Adam(groups, lr=lr)
    if config.name == "adamw":
        return AdamW(groups, lr=lr)
    if config.name == "sgd":
        return SGD(groups, lr=lr, momentum=momentum, nesterov=config.nesterov)
    return LARS(groups, lr=lr, momentum=momentum)


def learning_rate(config: OptimizerConfig, step: int, steps: int, epoch_steps: int) -> float:
    """Return the rate of a step: linear warm-up, then constant or half a cosine down to 0.

    Args:
        config: Peak, warm-up (in epochs, half of the run at most) and schedule.
        step: 0-based over the whole stage.
        steps: Number of steps of the stage.
        epoch_steps: Steps of an epoch.
    """
    warmup = min(round(config.warmup * epoch_steps), steps // 2)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group ``lr`` times its ``lr_factor``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
