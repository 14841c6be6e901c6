"""Optimisers, their parameter groups and the learning-rate schedule."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from skelfew.config import OptimizerConfig
from skelfew.io.files import Document


class Optimizer(ABC):
    """Groups of parameters that move together; the part of ``torch.optim.Optimizer`` used here.

    Making one of torch's imports its compiler, which takes longer than all that precedes the first
    batch of a run, and nothing here is compiled. The arithmetic is torch's, in functional form.
    """

    def __init__(self, groups: Iterable[Any], **defaults: object):
        listed = list(groups)
        if not all(isinstance(group, dict) for group in listed):
            listed = [{"params": listed}]
        self.param_groups: list[Document] = [
            {**defaults, **group, "params": list(group["params"])} for group in listed
        ]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @property
    def parameters(self) -> list[Tensor]:
        """All parameters, group by group."""
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move all parameters that have a gradient once."""
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if moving:
                self._move(group, moving, [p.grad for p in moving])

    @abstractmethod
    def _move(self, group: Document, params: list[Tensor], gradients: list[Tensor]) -> None:
        """Move the parameters of a group once."""

    def _remembered(self, params: list[Tensor], name: str) -> list[Tensor]:
        """Return a part of the state of parameters, zero at first; ``step`` is a number."""
        found = []
        for p in params:
            state = self.state.setdefault(p, {})
            if name not in state:
                state[name] = torch.zeros(()) if name == "step" else torch.zeros_like(p)
            found.append(state[name])
        return found


class Adam(Optimizer):
    """Kingma & Ba, 2015; with ``decoupled`` decay AdamW (Loshchilov & Hutter, 2019)."""

    def __init__(self, groups: Iterable[Any], lr: float, decoupled: bool):
        super().__init__(groups, lr=lr, weight_decay=0.0)
        self.decoupled = decoupled

    def _move(self, group: Document, params: list[Tensor], gradients: list[Tensor]) -> None:
        adam(
            params,
            gradients,
            self._remembered(params, "exp_avg"),
            self._remembered(params, "exp_avg_sq"),
            [],
            self._remembered(params, "step"),
            decoupled_weight_decay=self.decoupled,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    def __init__(self, groups: Iterable[Any], lr: float, momentum: float, nesterov: bool):
        super().__init__(groups, lr=lr, weight_decay=0.0)
        self.momentum, self.nesterov = momentum, nesterov

    def _move(self, group: Document, params: list[Tensor], gradients: list[Tensor]) -> None:
        velocities = self._remembered(params, "momentum_buffer") if self.momentum else []
        sgd(
            params,
            gradients,
            [*velocities] or [None for _ in params],
            weight_decay=group["weight_decay"],
            momentum=self.momentum,
            lr=group["lr"],
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
        )


class LARS(Optimizer):
    """SGD whose step is scaled, matrix by matrix, to the norm of the weights (You et al., 2017).

    Vectors (biases, BatchNorm) get the plain step, as in BYOL. ``weight_decay`` (L2) is part of
    what is scaled; ``trust`` is a step's length as a share of the weights' norm, at learning rate
    1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust)

    def _move(self, group: Document, params: list[Tensor], gradients: list[Tensor]) -> None:
        velocities = self._remembered(params, "momentum_buffer")
        for p, gradient, velocity in zip(params, gradients, velocities, strict=True):
            step = gradient.add(p, alpha=group["weight_decay"])
            if p.ndim > 1:
                weight, length = p.norm(), step.norm()
                scaled = group["trust"] * weight / length
                step = step * torch.where((weight > 0) & (length > 0), scaled, 1.0)
            velocity.mul_(group["momentum"]).add_(step)
            p.sub_(velocity, alpha=group["lr"])


def parameter_groups(
    parts: Sequence[tuple[nn.Module, float]], config: OptimizerConfig
) -> list[Document]:
    """Return optimiser groups of (module, factor), with ``lr_factor`` and ``weight_decay``.

    A parameter belongs to the first module it is met in; those without gradient are left out.
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


def build_optimizer(groups: list[Document], config: OptimizerConfig) -> Optimizer:
    """Return the optimiser; ``set_learning_rate`` gives every group its rate before a step."""
    lr, momentum = config.lr, config.momentum
    if config.name in ("adam", "adamw"):
        return Adam(groups, lr, decoupled=config.name == "adamw")
    if config.name == "sgd":
        return SGD(groups, lr, momentum, config.nesterov)
    return LARS(groups, lr=lr, momentum=momentum)


def learning_rate(config: OptimizerConfig, step: int, steps: int, epoch_steps: int) -> float:
    """Return the rate of a step: linear warm-up, then constant or half a cosine down to 0.

    Warm-up is in epochs, half of the run at most; ``step`` is 0-based.
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
