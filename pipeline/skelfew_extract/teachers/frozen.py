"""Common code of teachers: a frozen model on its device, texts one by one, provenance."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew_extract.teachers import Precision


class FrozenTeacher(ABC):
    """A frozen model that reads texts; ``about`` begins what provenance says."""

    dim: int

    def __init__(self, model: nn.Module, about: Document, device: str | torch.device):
        self.name, self.about, self.device = str(about["name"]), about, _device(device)
        self.model: Any = model.eval().requires_grad_(False).to(self.device)

    @abstractmethod
    def read(self, text: str) -> Tensor:
        """Return the feature of a text, (1, D)."""

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return text features (n, D), each the same whatever else is asked for."""
        # One at a time, so that not even the rounding depends on the other texts.
        rows = [self.read(text) for text in texts]
        return torch.cat(rows) if rows else torch.empty(0, self.dim, device=self.device)


class TextOnly(FrozenTeacher):
    """A frozen model that sees no video (see ``TextTeacher``)."""

    template = "{}"

    def describe(self) -> Document:
        """Return the provenance of the features, as JSON can hold it."""
        return {
            **self.about,
            "frames": 0,
            "dim": self.dim,
            "precision": "float32",
            "prompting": "class",
            "template": self.template,
        }


class ClipTeacher(FrozenTeacher):
    """A frozen model of clips, T frames of S x S pixels, and texts (see ``Teacher``)."""

    prompting: Literal["video-conditioned", "class"]

    def __init__(
        self,
        model: nn.Module,
        about: Document,
        *,
        frames: int,
        image_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        templates: tuple[str, ...],
        interpolation: str,
        device: str = "cpu",
        precision: Precision = "float32",
    ):
        if precision not in ("float32", "bfloat16"):
            raise SkelfewError(f"precision {precision!r}: choose float32 or bfloat16")
        super().__init__(model, about, device)
        self.frames, self.image_size, self.mean, self.std = frames, image_size, mean, std
        self.templates, self.interpolation, self.precision = templates, interpolation, precision
        self._mean = torch.tensor(mean, device=self.device).view(3, 1, 1) * 255
        self._std = torch.tensor(std, device=self.device).view(3, 1, 1) * 255

    def parts(self, frames: Tensor) -> list[Tensor]:
        """Return uint8 clips (B, T, 3, S, S) in the parts in which they are encoded.

        On a processor one at a time: batches gain nothing there, and so a clip gives the same bits
        in any company. Raises SkelfewError: the clips are not what the teacher takes.
        """
        expected = (self.frames, 3, self.image_size, self.image_size)
        if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[1:] != expected:
            raise SkelfewError(
                f"{self.name} takes uint8 clips of {expected}, got {frames.dtype} of "
                f"{tuple(frames.shape[1:])}"
            )
        return list(frames.split(1)) if self.device.type == "cpu" else [frames]

    def normalise(self, frames: Tensor) -> Tensor:
        """Return uint8 frames (..., 3, S, S) as the model wants them, on its device."""
        pixels = frames.to(self.device, torch.float32, non_blocking=True)
        return pixels.sub_(self._mean).div_(self._std)

    def describe(self) -> Document:
        """Return the provenance of the features, as JSON can hold it."""
        return {
            **self.about,
            "frames": self.frames,
            "dim": self.dim,
            "image_size": self.image_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "precision": self.precision,
            "prompting": self.prompting,
        }


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        line = str(error).partition("\n")[0]
        raise SkelfewError(f"device {name!r}: not to be had here ({line}); try cpu") from None
    return device
