"""Integrated gradients from the boundary (Wang, Fredrikson and Datta, ICML 2022), with captum."""

from dataclasses import dataclass

import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.explain.boundary import Boundary, Decide

OUTPUTS = ("logit", "margin")
TOLERANCE = 0.01
_FIRST, _MOST = 16, 1024  # points of the path
_AT_ONCE = 16


@dataclass(frozen=True)
class Attribution:
    """Share of each number of a sample in the rise of the output above the boundary."""

    values: Tensor
    rise: float  # output at the sample minus output at the boundary
    error: float  # how far the sum of ``values`` is from ``rise``, as a share of it
    points: int  # points of the path at which gradients were taken

    @property
    def complete(self) -> bool:
        """Whether the sum is right within one per cent."""
        return self.error <= TOLERANCE


def integrate(decide: Decide, x: Tensor, boundary: Boundary, output: str = "logit") -> Attribution:
    """Attribute the output of the decided class to the numbers of a sample (1, ...).

    (x - x') times the mean gradient on the straight way from x' to x, by the trapezoid rule. The
    number of points doubles from 16 until the sum is right within one per cent, 1024 at most.
    captum's weights of n points sum to (n - 1) / n, not 1; that is put right. The output is the
    ``logit``, as the source has it, or ``margin``, its lead on the class beyond the boundary.
    """
    if output not in OUTPUTS:
        raise SkelfewError(f"output is {output!r}; expected {' or '.join(OUTPUTS)}")
    try:
        from captum.attr import IntegratedGradients
    except ModuleNotFoundError as error:
        raise SkelfewError(
            f"explaining needs {error.name}, which is not installed; pip install 'skelfew[explain]'"
        ) from None

    def value(inputs: Tensor) -> Tensor:
        logits = decide(inputs)
        chosen = logits[:, boundary.label]
        return chosen if output == "logit" else chosen - logits[:, boundary.other]

    with torch.no_grad():
        rise = float(value(x)[0] - value(boundary.point)[0])
    method, points = IntegratedGradients(value), _FIRST
    while True:
        values = method.attribute(
            x,
            baselines=boundary.point,
            n_steps=points,
            method="riemann_trapezoid",
            internal_batch_size=_AT_ONCE,
        ).detach()
        values = values * (points / (points - 1))
        missed = abs(float(values.sum()) - rise) / max(abs(rise), 1e-300)
        if missed <= TOLERANCE or points >= _MOST:
            return Attribution(values, rise, missed, points)
        points *= 2
