"""Image-text models of open_clip as teachers of clips: the mean of their frames.

``open_clip:MODEL/TAG`` takes any of them: CLIP, MetaCLIP, DFN, EVA-CLIP, SigLIP 2, PE-Core. The
mean does not know the order of the frames, so such a teacher is a control for one that does.
Attention over time on top of them would need weights that were never trained.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew_extract.open_clip_door import VERSION, SimpleTokenizer, open_clip
from skelfew_extract.teachers import Shape
from skelfew_extract.teachers.frame_teacher import FrameTeacher
from skelfew_extract.teachers.open_clip_models import Asked, build_model

FRAMES = 8
# Ours: open_clip's own lists are about photographs of things.
TEMPLATES = ("{}", "a video of {}", "a video of a person doing {}")


class FrameAveraged(FrameTeacher):
    """A model of open_clip, with ``visual.preprocess_cfg``, that sees every frame by itself.

    f_v is the mean over the frames of features of length one. Its own length says how much the
    frames agree, and is kept.
    """

    def __init__(self, model: Any, tokenizer: Any, about: Document, **placement: Any):
        prepared = model.visual.preprocess_cfg
        self.tokenizer = tokenizer
        interpolation = str(prepared.get("interpolation", "bicubic"))
        super().__init__(
            model,
            about,
            frames=FRAMES,
            image_size=_side(prepared["size"], str(about["name"])),
            mean=tuple(prepared["mean"]),
            std=tuple(prepared["std"]),
            templates=TEMPLATES,
            interpolation=interpolation if interpolation in ("bilinear", "bicubic") else "bicubic",
            **placement,
        )

    def encode_one_text(self, text: str) -> Tensor:
        """Return the feature of a text, (1, D)."""
        length = int(self.model.context_length)
        if isinstance(self.tokenizer, SimpleTokenizer):
            count = len(self.tokenizer.encode(text)) + 2
        else:
            count = len(self.tokenizer.tokenizer(text)["input_ids"])
        if count > length:
            raise SkelfewError(
                f"text {text[:60]!r}... has {count} tokens, but {self.name} reads {length}; "
                "shorten the class name"
            )
        tokens = self.tokenizer([text], context_length=length).to(self.device)
        feature: Tensor = self.model.encode_text(tokens)
        return feature

    def encode_video(self, pixels: Tensor) -> Tensor:
        """Return f_v (B, D) of normalised frames (B, T, 3, S, S)."""
        with self._blocks():
            frames = self.model.encode_image(pixels.flatten(0, 1))
        return F.normalize(frames.float(), dim=-1).unflatten(0, (-1, self.frames)).mean(dim=1)


def build(
    name: str,
    *,
    weights: str | None = None,
    untrained: bool = False,
    seed: int = 0,
    **placement: Any,
) -> FrameAveraged:
    """Return the teacher of an ``open_clip:`` name, see ``Asked.parse`` and ``build_teacher``."""
    asked = Asked.parse(name.partition(":")[2], weights)
    tokenizer = _tokenizer(asked)
    model, about = build_model(asked, untrained=untrained, seed=seed)
    shown = asked.folder.name if asked.folder else asked.model
    about = {
        "name": f"open_clip:{shown}",
        "architecture": f"open_clip's {shown}, {type(model).__name__}, mean of {FRAMES} frames of "
        "length one",
        **about,
        "open_clip": VERSION,
    }
    return FrameAveraged(model, tokenizer, about, **placement)


def shape_of(name: str) -> Shape:
    """Return what the teacher takes, without its weights."""
    asked = Asked.parse(name.partition(":")[2])
    vision = asked.config().get("vision_cfg", {})
    prepared: Document = {}
    if not asked.folder and asked.source in open_clip.list_pretrained_tags_by_model(asked.model):
        prepared = open_clip.get_pretrained_cfg(asked.model, asked.source)
    size = _side(vision.get("image_size", 224), name)
    interpolation = str(prepared.get("interpolation") or "bicubic")
    return Shape(FRAMES, size, int(vision.get("width", 768)), interpolation, False)


def _side(size: Any, name: str) -> int:
    sides = {int(side) for side in (size if isinstance(size, tuple | list) else [size])}
    if len(sides) != 1:
        raise SkelfewError(f"{name}: takes pictures of {size}; crops are square, choose another")
    return sides.pop()


def _tokenizer(asked: Asked) -> Any:
    try:
        return open_clip.get_tokenizer(asked.model)
    except Exception as error:  # transformers and the hub's client raise what they meet
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise SkelfewError(
            f"open_clip:{asked.model}: its tokeniser cannot be had ({line}); this model reads "
            "texts with one of the Hugging Face hub, downloaded once, and needs transformers"
        ) from None
