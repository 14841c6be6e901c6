"""Input checks and batches, shared by all teachers of clips."""

from typing import Protocol

import torch
from torch import Tensor

from skelfew.errors import SkelfewError


class _TakesClips(Protocol):
    name: str
    frames: int
    image_size: int
    device: torch.device


def check_precision(precision: str) -> None:
    """Raise SkelfewError unless ``precision`` is one that teachers have."""
    if precision not in ("float32", "bfloat16"):
        raise SkelfewError(f"precision {precision!r}: choose float32 or bfloat16")


def parts_of(teacher: _TakesClips, frames: Tensor) -> list[Tensor]:
    """Return uint8 clips (B, T, 3, S, S) in the parts in which they are encoded.

    On a processor one at a time: batches gain nothing there, and so a clip gives the same bits in
    any company. Raises SkelfewError: the clips are not what ``teacher`` takes.
    """
    expected = (teacher.frames, 3, teacher.image_size, teacher.image_size)
    if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[1:] != expected:
        raise SkelfewError(
            f"{teacher.name} takes uint8 clips of {expected}, got {frames.dtype} of "
            f"{tuple(frames.shape[1:])}"
        )
    return list(frames.split(1)) if teacher.device.type == "cpu" else [frames]
