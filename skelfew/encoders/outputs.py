"""What can be read from an encoder: the pooled feature, or what a head wants instead."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from skelfew.data.augment import mirror
from skelfew.encoders.backbone import SkeletonGCN
from skelfew.errors import SkelfewError


def _pooled(encoder: nn.Module, x: Tensor) -> Tensor:
    return cast(Tensor, encoder(x))


def _joints(encoder: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(encoder, SkeletonGCN):
        raise SkelfewError(f"{type(encoder).__name__} gives no features by frame and joint")
    return encoder.forward_sequence(x)


def _frames(encoder: nn.Module, x: Tensor) -> Tensor:
    return _joints(encoder, x).mean(dim=2)


def _mirrored(encoder: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(encoder, SkeletonGCN):
        raise SkelfewError(f"{type(encoder).__name__} does not know left from right")
    both = torch.cat([x, mirror(x, encoder.layout)])
    return torch.stack(cast(Tensor, encoder(both)).chunk(2), dim=1)


# T' is a quarter of the frames, rounded up.
OUTPUTS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "pooled": _pooled,  # (N, D)
    "frames": _frames,  # (N, T', D), mean over joints
    "joints": _joints,  # (N, T', V, D)
    "mirrored": _mirrored,  # (N, 2, D), pooled, of the clip and of its mirror image
}


def read(encoder: nn.Module, skeletons: Tensor, output: str = "pooled") -> Tensor:
    """Return an output (N, *F) of an encoder for skeletons (N, C, T, V, M).

    Args:
        encoder: The encoder.
        skeletons: Its input.
        output: A key of ``OUTPUTS``.
    """
    return OUTPUTS[output](encoder, skeletons)
