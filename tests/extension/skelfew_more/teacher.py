"""Teacher ``colours``: what colours a clip has, and the letters of its class name."""

from typing import Any

import torch
from skelfew_extract.teachers import Shape
from skelfew_extract.teachers.frame_teacher import FrameTeacher
from torch import Tensor, nn

_DIM, _FRAMES, _SIZE = 12, 4, 16


class Colours(FrameTeacher):
    """f_v: the mean colour of each of four frames; f_t: counts of letters."""

    def encode_one_text(self, text: str) -> Tensor:
        """Return how often twelve letters occur in a text, (1, 12)."""
        return torch.tensor([[1.0 + text.count(c) for c in "abcdefghinst"]])

    def encode_video(self, pixels: Tensor) -> Tensor:
        """Return the mean colours (B, 12) of frames (B, 4, 3, S, S)."""
        return pixels.mean(dim=(3, 4)).flatten(1)


def build(name: str, *, untrained: bool = False, weights: Any = None, **placement: Any) -> Colours:
    """Return the teacher, which has no weights."""
    del placement["seed"]
    about = {"name": name, "architecture": "mean colours", "weights": None, "trained": True}
    return Colours(
        nn.Identity(),
        about,
        frames=_FRAMES,
        image_size=_SIZE,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        templates=("{}",),
        interpolation="bilinear",
        **placement,
    )


def shape_of(name: str) -> Shape:
    """Return what the teacher takes."""
    return Shape(_FRAMES, _SIZE, _DIM)
