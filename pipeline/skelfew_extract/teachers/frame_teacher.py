"""Common code of teachers that encode frames one by one and whose texts depend on no clip."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.io.files import Document
from skelfew_extract.teachers import Precision
from skelfew_extract.teachers.clips import check_precision, parts_of
from skelfew_extract.text import prompts


def _keep_sums_in_float32(model: nn.Module) -> None:
    """Let the residual stream of a vision transformer begin in float32.

    Under autocast the patch embedding gives bfloat16, and a tower that casts all that is added to
    the residual stays in it, rounding the sum after every block.
    """
    embedding = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if embedding is not None:
        embedding.register_forward_hook(lambda module, given, patches: patches.float())


class FrameTeacher(ABC):
    """A frozen model of frames and texts (see ``Teacher``); f_t is the text of the class alone.

    f_t is the mean over the templates (``{}`` for the name) of text features of length one, scaled
    to length one again. ``about`` is what provenance says.
    """

    prompting: Literal["video-conditioned", "class"] = "class"

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
        compile: bool = False,
    ):
        check_precision(precision)
        self.name = str(about["name"])
        self.about, self.templates, self.interpolation = about, templates, interpolation
        self.frames, self.image_size, self.mean, self.std = frames, image_size, mean, std
        self.precision, self.device = precision, torch.device(device)
        self.model = model.eval().requires_grad_(False).float().to(self.device)
        if precision == "bfloat16":
            _keep_sums_in_float32(self.model)
        self._mean = torch.tensor(mean, device=self.device).view(3, 1, 1) * 255
        self._std = torch.tensor(std, device=self.device).view(3, 1, 1) * 255
        self._encode = torch.compile(self.encode_video, dynamic=False) if compile else None
        self.dim = self._text("a person").shape[-1]

    @abstractmethod
    def encode_one_text(self, text: str) -> Tensor:
        """Return the feature of a text, (1, D), not normalised."""

    @abstractmethod
    def encode_video(self, pixels: Tensor) -> Tensor:
        """Return f_v (B, D) of normalised frames (B, T, 3, S, S)."""

    def _blocks(self) -> AbstractContextManager[Any]:
        """The precision in which frames are encoded."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @torch.inference_mode()
    def _text(self, label: str) -> Tensor:
        texts = [prompts([label], template)[0] for template in self.templates]
        rows = torch.cat([F.normalize(self.encode_one_text(t).float(), dim=-1) for t in texts])
        return F.normalize(rows.mean(dim=0, keepdim=True), dim=-1)

    def encode_text(self, labels: Sequence[str]) -> Tensor:
        """Return text features (C, D) of length one, each the same whatever else is asked for."""
        rows = [self._text(label) for label in labels]
        return torch.cat(rows) if rows else torch.empty(0, self.dim, device=self.device)

    @torch.inference_mode()
    def encode_clips(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return f_v (B, D) and an empty context (B, 0) of uint8 frames (B, T, 3, S, S)."""
        encode = self._encode or self.encode_video
        features = [encode(self.normalise(part)).float() for part in parts_of(self, frames)]
        return torch.cat(features), torch.empty(len(frames), 0, device=self.device)

    def normalise(self, frames: Tensor) -> Tensor:
        """Return uint8 frames (..., 3, S, S) as the model wants them, on its device."""
        return (frames.to(self.device, torch.float32) - self._mean) / self._std

    def condition(self, text: Tensor, context: Tensor) -> Tensor:
        """Return the text features (B, D) themselves: they are of the class, not of the clip."""
        return text

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
            "templates": list(self.templates),
        }
