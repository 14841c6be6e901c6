"""The nearest point at which a verdict changes: steps of normalised gradients, then bisection.

Wang, Fredrikson and Datta ("Robust Models Are More Interpretable Because Attributions Look Normal",
ICML 2022) take projected gradient steps within a list of radii and keep the smallest that succeeds.
Here the radius follows the search (Rony et al., "Decoupling Direction and Norm", CVPR 2019): it
grows until the verdict changes, shrinks while it stays changed and grows again when it does not, so
that one search ends nearer than a list of radii does. Radii are shares of the recording's size,
since joints have other units than pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from skelfew.errors import SkelfewError

Decide = Callable[[Tensor], Tensor]  # network input (B, ...) to logits (B, N), with gradients

_FIRST = 0.001  # radius of the first step, as a share of the recording's size
_GROWTH, _NARROWING = 1.15, 0.1  # until the verdict changes, and afterwards
_LONGEST, _SHORTEST = 1.0, 0.01  # a step, as a share of the radius, from first to last
_CLOSE = 1e-3  # how near the boundary is nearer, as a share of the sample's own margin
_HALVINGS = 60


class NoBoundary(SkelfewError):
    """The verdict did not change anywhere near; the message says how far and how long was tried."""


@dataclass(frozen=True)
class Boundary:
    """A point just beyond the decision boundary."""

    point: Tensor  # network input, of the shape of what it was found from
    label: int  # class of the sample, as it is decided (its position among the N)
    other: int
    distance: float  # L2 distance from the sample
    size: float  # L2 length of what may move of the sample
    margin: float  # logit of ``label`` minus the largest other one, at the sample
    beyond: float  # the same at ``point``: negative, and within a thousandth of ``margin`` of 0
    steps: int

    @property
    def share(self) -> float:
        """The distance as a share of the recording's size."""
        return self.distance / self.size


def nearest_boundary(
    decide: Decide, x: Tensor, movable: Tensor, steps: int = 100, limit: float = 0.5
) -> Boundary:
    """Search the point nearest to a sample (1, ...) at which another class is the likeliest.

    What is ``movable`` may change, by up to ``limit``, a share of its L2 length. Raises NoBoundary:
    no step changed the verdict, or nothing that may move has any influence.
    """
    size = float(x[movable].norm())
    most, radius = limit * size, min(_FIRST, limit) * size
    label = int(decide(x.detach())[0].argmax())
    moved, best, margin = torch.zeros_like(x), None, math.nan
    for step in range(steps + 1):  # the last one only looks
        point = (x + moved).detach().requires_grad_()
        lead = _lead(decide(point), label)
        value = float(lead.detach())
        if step == 0:
            margin = value
        if value < 0 and (best is None or moved.norm() < best.norm()):
            best = moved.clone()
        (gradient,) = torch.autograd.grad(lead, point)
        gradient = gradient * movable
        length = gradient.norm()
        if step == steps or not length > 0:
            break
        done = step / steps
        if best is None:
            radius = min(radius * (_GROWTH if step else 1), most)
        else:
            change = _NARROWING * (1 - done)
            radius = min(radius * (1 - change if value < 0 else 1 + change), most)
        share = _SHORTEST + (_LONGEST - _SHORTEST) * (1 + math.cos(math.pi * done)) / 2
        moved = moved - share * radius * gradient / length
        moved = moved * (radius / moved.norm().clamp_min(1e-300))
    if best is None:
        if not length > 0:
            raise NoBoundary(
                f"the verdict does not depend on the recording here: no gradient after {step} steps"
            )
        raise NoBoundary(
            f"no change of the verdict within {radius / size:.2g} of the recording's size after "
            f"{step} steps; raise --limit (now {limit:g}) or --steps (now {steps})"
        )
    point, beyond, other = _bisected(decide, x, best, label, _CLOSE * margin)
    distance = float((point - x).norm())
    return Boundary(point, label, other, distance, size, margin, beyond, step)


def _lead(logits: Tensor, label: int) -> Tensor:
    """Logit of a class minus the largest other one, of logits (1, N)."""
    others = torch.cat([logits[0, :label], logits[0, label + 1 :]])
    return logits[0, label] - others.max()


@torch.no_grad()
def _bisected(
    decide: Decide, x: Tensor, moved: Tensor, label: int, close: float
) -> tuple[Tensor, float, int]:
    """Return the point beyond the boundary on the way to x + moved, its margin and its class."""
    inside, outside = 0.0, 1.0
    logits = decide(x + moved)
    for _ in range(_HALVINGS):
        if float(_lead(logits, label)) >= -close:
            break
        middle = (inside + outside) / 2
        found = decide(x + middle * moved)
        if float(_lead(found, label)) < 0:
            outside, logits = middle, found
        else:
            inside = middle
    return x + outside * moved, float(_lead(logits, label)), int(logits[0].argmax())
