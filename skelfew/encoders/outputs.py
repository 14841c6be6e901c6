"""Outputs of an encoder: the pooled feature, or the maps that some heads read."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from skelfew.data.input.augment import mirror, turned
from skelfew.data.joints.body_parts import body_parts
from skelfew.encoders.backbone import SkeletonGCN
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.encoders.gca_lstm import SkeletonGCALSTM
from skelfew.errors import SkelfewError

MOST_VIEWS = 31  # along each axis


def _pooled(encoder: nn.Module, x: Tensor) -> Tensor:
    return cast(Tensor, encoder(x))


def _joints(encoder: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(encoder, SkeletonEncoder):
        raise SkelfewError(f"{type(encoder).__name__} gives no features by frame and joint")
    return encoder.forward_sequence(x)


def _frames(encoder: nn.Module, x: Tensor) -> Tensor:
    return _joints(encoder, x).mean(dim=2)


def _clips(encoder: nn.Module, x: Tensor) -> Tensor:
    return _frames(encoder, x)[:, None]


def _parts(encoder: nn.Module, x: Tensor) -> Tensor:
    if isinstance(encoder, SkeletonGCALSTM):
        return encoder.forward_parts(x)
    if not isinstance(encoder, SkeletonGCN):
        raise SkelfewError(
            f"{type(encoder).__name__} gives no features of parts of the body; gca-lstm and the "
            "graph networks do (--encoder)"
        )
    joints = encoder.forward_sequence(x).mean(dim=1)
    parts = body_parts(encoder.layout).values()
    return torch.stack([joints[:, list(of)].mean(dim=1) for of in parts], dim=1)


def _mirrored(encoder: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(encoder, SkeletonEncoder):
        raise SkelfewError(f"{type(encoder).__name__} does not know left from right")
    both = torch.cat([x, mirror(x, encoder.layout)])
    return torch.stack(cast(Tensor, encoder(both)).chunk(2), dim=1)


def views_output(yaws: int, pitches: int, degrees: float) -> str:
    """Return the name of the output (N, yaws * pitches, T', D): by frame, of turned skeletons.

    Odd numbers of angles about the vertical and the horizontal axis, ``degrees`` between two.
    """
    return f"views:{yaws}x{pitches}:{degrees:g}"


def _views(encoder: nn.Module, x: Tensor, output: str) -> Tensor:
    grid, degrees = output.split(":")[1:]
    yaws, pitches = (int(n) for n in grid.split("x"))
    views = turned(x, yaws, pitches, float(degrees)).unbind(dim=1)
    if encoder.training:  # one pass, so that BatchNorm sees all views
        return torch.stack(_frames(encoder, torch.cat(views)).chunk(len(views)), dim=1)
    return torch.stack([_frames(encoder, view) for view in views], dim=1)


def check_output(output: str, coordinates: int) -> None:
    """Raise SkelfewError if an output cannot be had of joints of so many coordinates, 2 or 3."""
    if output.startswith("views:") and coordinates != 3:
        raise SkelfewError(
            "joints in a picture (2D) cannot be turned to other viewpoints, which the head jeanie "
            "does; use soft-dtw"
        )


# T' is a quarter of the frames, rounded up.
OUTPUTS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "pooled": _pooled,  # (N, D)
    "frames": _frames,  # (N, T', D), mean over joints
    "joints": _joints,  # (N, T', V, D)
    "parts": _parts,  # (N, P, D), mean over frames and the joints of each part of the body
    "clips": _clips,  # (N, 1, T', D), frames as the one part of a clip that is warped
    "mirrored": _mirrored,  # (N, 2, D), pooled, of the clip and of its mirror image
}


def read(encoder: nn.Module, skeletons: Tensor, output: str = "pooled") -> Tensor:
    """Return an output of ``OUTPUTS`` or ``views_output`` (N, *F) of skeletons (N, C, T, V, M)."""
    if output.startswith("views:"):
        return _views(encoder, skeletons, output)
    return OUTPUTS[output](encoder, skeletons)
