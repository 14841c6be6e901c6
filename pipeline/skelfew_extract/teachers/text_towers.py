"""The text towers of CLIP models and X-CLIP as teachers that see no video."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew_extract.teachers.open_clip_models import Asked, build_model, unknown
from skelfew_extract.teachers.variants import VARIANTS
from skelfew_extract.teachers.xclip_teacher import XCLIPTeacher, build_xclip
from skelfew_extract.text import bpe_ids, tokenize


class XCLIPText:
    """X-CLIP's text tower, before any conditioning on a video (see ``TextTeacher``)."""

    name = "text"

    def __init__(self, teacher: XCLIPTeacher):
        self.teacher, self.dim = teacher, teacher.dim

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return (n, D), float32, each of length one."""
        return torch.nn.functional.normalize(self.teacher.encode_text(texts).float(), dim=-1)

    def describe(self) -> Document:
        """Return the provenance of the features, as JSON can hold it."""
        about = self.teacher.describe()
        kept = ("trained", "weights", "weights_sha256", "open_clip")
        return {
            "name": self.name,
            "architecture": f"text tower of {about['name']} ({about['architecture']}), "
            "scaled to length one",
            **{key: about[key] for key in kept},
            "frames": 0,
            "dim": self.dim,
            "precision": "float32",
            "prompting": "class",
            "template": "{}",
        }


class CLIPText:
    """The text tower of a model of open_clip (see ``TextTeacher``), frozen."""

    name = "text"

    def __init__(self, model: Any, architecture: str, about: Document, device: str = "cpu"):
        self.model = model.eval().requires_grad_(False).to(device)
        self.architecture, self.about, self.device = architecture, about, torch.device(device)
        self.length = int(model.context_length)
        self.dim = self.encode_text(["a person waves"]).shape[1]

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return (n, D), float32, each of length one and the same whatever else is asked for."""
        rows = []
        for text in texts:
            bpe_ids(text)  # refuses what would be cut off without a word
            tokens = torch.nn.functional.pad(tokenize(text), (0, self.length))[:, : self.length]
            rows.append(self.model.encode_text(tokens.to(self.device), normalize=True).float())
        return torch.cat(rows) if rows else torch.empty(0, self.dim, device=self.device)

    def describe(self) -> Document:
        """Return the provenance of the features, as JSON can hold it."""
        from skelfew_extract.open_clip_door import VERSION

        return {
            "name": self.name,
            "architecture": f"text tower of open_clip's {self.architecture}, scaled to length one",
            **self.about,
            "frames": 0,
            "dim": self.dim,
            "precision": "float32",
            "prompting": "class",
            "template": "{}",
            "open_clip": VERSION,
        }


def build_xclip_text(asked: str, *, untrained: bool, seed: int, device: str) -> XCLIPText:
    """Return the text tower of ``VARIANT`` or ``VARIANT/WEIGHTS``."""
    variant, _, weights = asked.partition("/")
    if variant not in VARIANTS:
        raise SkelfewError(unknown("X-CLIP", variant, VARIANTS))
    if weights and untrained:
        raise SkelfewError(f"--untrained and the weights {weights} contradict each other; drop one")
    return XCLIPText(
        build_xclip(variant, weights=weights or None, untrained=untrained, seed=seed, device=device)
    )


def build_clip_text(asked: str, *, untrained: bool, seed: int, device: str) -> CLIPText:
    """Return the text tower of open_clip's ``MODEL/TAG`` or ``MODEL/FILE``."""
    wanted = Asked.parse(asked)
    text = wanted.config().get("text_cfg", {})
    odd = {"hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs"} & set(text)
    if odd or text.get("context_length", 77) != 77:
        raise SkelfewError(f"open_clip:{asked}: does not read CLIP's 77 tokens; choose another")
    model, about = build_model(wanted, untrained=untrained, seed=seed)
    return CLIPText(model, wanted.model, about, device)
