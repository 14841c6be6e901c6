"""Layers on tensors (T, N, V, C), frames first and channels last.

There a 1x1 convolution is one matrix product over all frames, bodies and joints, and a few frames
are a matrix without a copy (``skelfew.encoders.temporal``).
"""

import torch
from torch import Tensor, nn

# Channels of the first block from which on this is faster than convolutions of (N, C, T, V).
_LEAST_WIDTH = 64


def pays(x: Tensor, width: int) -> bool:
    """Return whether an encoder of this width should compute x with the frames first.

    Not on a GPU, whose tensor cores have no use for it, not in bfloat16, and not in a graph that is
    exported, which shall be read by others.
    """
    return (
        width >= _LEAST_WIDTH
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def pointwise(convolution: nn.Module, x: Tensor) -> Tensor:
    """Return what a 1x1 convolution, whatever its stride, makes of every place of x."""
    assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
    rows = x.reshape(-1, x.shape[-1])
    mixed = torch.addmm(convolution.bias, rows, convolution.weight.flatten(1).T)
    return mixed.view(*x.shape[:-1], -1)


def normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """Return what a BatchNorm layer makes of the channels of x."""
    y: Tensor = norm(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)
