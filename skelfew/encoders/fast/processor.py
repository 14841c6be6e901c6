"""Layers as matrix products, which on a processor are faster than 1x1 convolutions.

Blocks have such a form beside their plain one, ``by_products``, equal to rounding. AGCN's is for
tensors (T, N, V, C), frames first and channels last: there a 1x1 convolution is one product over
all frames, bodies and joints, and a few frames are a matrix without a copy
(``skelfew.encoders.fast.temporal``). CTR-GCN's is for (C, N, V, T), as every channel has a graph
(``skelfew.encoders.fast.channel_rows``).
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn


def pays(x: Tensor, frames_first: bool) -> bool:
    """Return whether products are the faster form for x.

    Not on a GPU, nor in a graph that is exported, nor, with frames first, in bfloat16: Fourier
    transforms want single precision, and the processor's units are fast enough without.
    """
    return (
        x.dtype in (torch.float32, torch.float64)
        and not (frames_first and torch.is_autocast_enabled("cpu"))
        and on_processor(x)
    )


def on_processor(x: Tensor) -> bool:
    """Return whether x is computed on a processor, now."""
    return not (x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing())


def pointwise(convolution: nn.Module, x: Tensor) -> Tensor:
    """Return what a 1x1 convolution, whatever its stride, makes of x (T, N, V, C)."""
    assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
    rows = x.reshape(-1, x.shape[-1])
    mixed = torch.addmm(convolution.bias, rows, convolution.weight.flatten(1).T)
    return mixed.view(*x.shape[:-1], -1)


def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return a 1x1 convolution of x (N, C, T, V) by weights (C', C, 1, 1) as a matrix product."""
    n, _, t, v = x.shape
    y = torch.baddbmm(bias[:, None], weight.flatten(1).expand(n, -1, -1), x.flatten(2))
    return y.view(n, -1, t, v)


def normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """Return what a BatchNorm layer makes of x (T, N, V, C): a view, not to be changed in place."""
    y: Tensor = norm(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


def stacked(convolutions: Iterable[nn.Module], dim: int = 0) -> tuple[Tensor, Tensor]:
    """Return weights of several 1x1 convolutions side by side (``dim`` 0) or summed (1)."""
    modules = list(convolutions)
    weights = [cast(Tensor, module.weight) for module in modules]
    biases = torch.stack([cast(Tensor, module.bias) for module in modules])
    return torch.cat(weights, dim=dim), biases.flatten() if dim == 0 else biases.sum(dim=0)
