"""Common code of teachers that encode frames one by one and whose texts depend on no clip."""

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.io.files import Document
from skelfew_extract.teachers.frozen import ClipTeacher
from skelfew_extract.text import prompts


def _keep_sums_in_float32(model: nn.Module) -> None:
    """Let the residual stream of a vision transformer begin in float32.

    Under autocast the patch embedding gives bfloat16, and a tower that casts all that is added to
    the residual stays in it, rounding the sum after every block.
    """
    embedding = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if embedding is not None:
        embedding.register_forward_hook(lambda module, given, patches: patches.float())


class FrameTeacher(ClipTeacher):
    """A frozen model of frames and texts; f_t is the text of the class alone.

    f_t is the mean over the templates (``{}`` for the name) of text features of length one, scaled
    to length one again.
    """

    prompting: Literal["video-conditioned", "class"] = "class"

    def __init__(
        self, model: nn.Module, about: Document, *, compile: bool = False, **placement: Any
    ):
        super().__init__(model.float(), about, **placement)
        if self.precision == "bfloat16":
            _keep_sums_in_float32(self.model)
        self._encode = torch.compile(self.encode_video, dynamic=False) if compile else None
        self.dim = self.encode_text(["a person"]).shape[-1]

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

    def read(self, text: str) -> Tensor:
        """Return the feature of a class name, (1, D), of length one."""
        texts = [prompts([text], template)[0] for template in self.templates]
        rows = torch.cat([F.normalize(self.encode_one_text(t).float(), dim=-1) for t in texts])
        return F.normalize(rows.mean(dim=0, keepdim=True), dim=-1)

    @torch.inference_mode()
    def encode_clips(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return f_v (B, D) and an empty context (B, 0) of uint8 frames (B, T, 3, S, S)."""
        encode = self._encode or self.encode_video
        features = [encode(self.normalise(part)).float() for part in self.parts(frames)]
        return torch.cat(features), torch.empty(len(frames), 0, device=self.device)

    def condition(self, text: Tensor, context: Tensor) -> Tensor:
        """Return the text features (B, D) themselves: they are of the class, not of the clip."""
        return text

    def describe(self) -> Document:
        """Return the provenance of the features, as JSON can hold it."""
        return {**super().describe(), "templates": list(self.templates)}
