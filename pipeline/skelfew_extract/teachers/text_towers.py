"""The text towers of CLIP models and X-CLIP as teachers that see no video."""

from typing import Any

import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew_extract.open_clip_door import VERSION
from skelfew_extract.teachers.frozen import TextOnly
from skelfew_extract.teachers.open_clip_models import Asked, build_model, unknown
from skelfew_extract.teachers.variants import VARIANTS
from skelfew_extract.teachers.xclip_teacher import XCLIPTeacher, build_xclip
from skelfew_extract.text import bpe_ids, tokenize


class XCLIPText(TextOnly):
    """X-CLIP's text tower, before any conditioning on a video."""

    def __init__(self, teacher: XCLIPTeacher):
        of = teacher.about
        about = {
            "name": "text",
            "architecture": f"text tower of {of['name']} ({of['architecture']}), "
            "scaled to length one",
            **{key: of[key] for key in ("trained", "weights", "weights_sha256", "open_clip")},
        }
        super().__init__(teacher.model, about, teacher.device)
        self.teacher, self.dim = teacher, teacher.dim

    def read(self, text: str) -> Tensor:
        """Return the feature of a text, (1, D), of length one."""
        return torch.nn.functional.normalize(self.teacher.read(text).float(), dim=-1)


class CLIPText(TextOnly):
    """The text tower of a model of open_clip, frozen."""

    def __init__(self, model: Any, architecture: str, about: Document, device: str = "cpu"):
        named = f"text tower of open_clip's {architecture}, scaled to length one"
        about = {"name": "text", "architecture": named, **about, "open_clip": VERSION}
        super().__init__(model, about, device)
        self.length = int(model.context_length)
        self.dim = self.encode_text(["a person waves"]).shape[1]

    def read(self, text: str) -> Tensor:
        """Return the feature of a text, (1, D), of length one."""
        bpe_ids(text)  # refuses what would be cut off without a word
        tokens = torch.nn.functional.pad(tokenize(text), (0, self.length))[:, : self.length]
        feature: Tensor = self.model.encode_text(tokens.to(self.device), normalize=True)
        return feature.float()


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
