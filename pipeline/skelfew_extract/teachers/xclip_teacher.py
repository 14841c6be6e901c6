"""X-CLIP as a frozen teacher: uint8 frames and class names in, f_v and f_t out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.io.documents import write_tensors
from skelfew.io.files import Document, Values
from skelfew_extract.open_clip_door import VERSION
from skelfew_extract.teachers.frozen import ClipTeacher
from skelfew_extract.teachers.variants import VARIANTS, Variant
from skelfew_extract.teachers.xclip import XCLIP, wrong_activations
from skelfew_extract.text import TEMPLATE, CompactVocabulary, tokenize
from skelfew_extract.weight_files import find_weights
from skelfew_extract.weights import (
    Checkpoint,
    load_strictly,
    open_checkpoint,
    state_sha256,
)

FORMAT = "skelfew-xclip"
FORMAT_VERSION = 1

# X-CLIP was trained with the statistics of ImageNet, not with CLIP's own.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class XCLIPTeacher(ClipTeacher):
    """A frozen X-CLIP (see ``Teacher``).

    The context that ``encode_clips`` hands to ``condition`` is (B, P, D): the patches after the
    last block, averaged over the frames and projected.
    """

    prompting: Literal["video-conditioned", "class"] = "video-conditioned"

    def __init__(
        self,
        model: XCLIP,
        variant: Variant,
        *,
        weights: str,
        weights_sha256: str | None = None,
        trained: bool,
        vocabulary: CompactVocabulary | None = None,
        compile: bool = False,
        **placement: Any,
    ):
        if wrong := wrong_activations(model):
            raise SkelfewError(
                f"{variant.name}: {len(wrong)} activations are not QuickGELU, with which X-CLIP "
                f"was trained, the first {wrong[0]}; build it from XCLIP(variant)"
            )
        v = variant
        about: Document = {
            "name": v.name,
            "architecture": f"X-CLIP, ViT-{v.layers}x{v.width}/{v.patch} at {v.image_size} pixels"
            + (f", open_clip {v.clip}" if v.clip else ""),
            "activation": "quickgelu",
            "weights": weights,
            "weights_sha256": weights_sha256 or state_sha256(model.state_dict()),
            "trained": trained,
            "open_clip": VERSION,
        }
        super().__init__(
            model,
            about,
            frames=v.frames,
            image_size=v.image_size,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            templates=(TEMPLATE,),
            interpolation="bilinear",
            **placement,
        )
        self.variant, self.dim, self.vocabulary, self.trained = v, v.dim, vocabulary, trained
        self.model.block_dtype = torch.bfloat16 if self.precision == "bfloat16" else None
        encode = self.model.encode_video
        self._encode_video = torch.compile(encode, dynamic=False) if compile else encode

    def tokens(self, label: str) -> Tensor:
        """Return the model's token ids (1, L) of a text."""
        tokens = tokenize(label)
        return self.vocabulary.rows(tokens) if self.vocabulary else tokens

    def read(self, text: str) -> Tensor:
        """Return the feature of a text, (1, D)."""
        feature: Tensor = self.model.encode_text(self.tokens(text).to(self.device))
        return feature

    @torch.inference_mode()
    def encode_clips(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return f_v (B, D) and context (B, P, D) of uint8 frames (B, T, 3, S, S)."""
        encoded = [self._encode_video(self.normalise(part)) for part in self.parts(frames)]
        return torch.cat([f for f, _ in encoded]), torch.cat([c for _, c in encoded])

    @torch.inference_mode()
    def condition(self, text: Tensor, context: Tensor) -> Tensor:
        """Return f_t (B, D) of each clip's own text feature (B, D)."""
        if self.device.type != "cpu":
            return self.model.condition(text.unsqueeze(1), context).squeeze(1)
        rows = zip(text.unsqueeze(1).split(1), context.split(1), strict=True)
        return torch.cat([self.model.condition(t, c) for t, c in rows]).squeeze(1)


def build_xclip(
    name: str,
    *,
    weights: str | None = None,
    untrained: bool = False,
    seed: int = 0,
    vocabulary: CompactVocabulary | None = None,
    **placement: Any,
) -> XCLIPTeacher:
    """Return an X-CLIP teacher; see ``build_teacher`` for the other arguments.

    ``vocabulary``: tokens that an untrained model with a compact table shall know; a checkpoint
    brings its own.
    """
    variant = VARIANTS[name]
    if untrained:
        if vocabulary is None and variant.clip is None:
            vocabulary = CompactVocabulary(variant.vocabulary)
        model = _random(_with(variant, vocabulary), seed)
        source = f"untrained seed {seed}"
        return XCLIPTeacher(
            model, variant, weights=source, trained=False, vocabulary=vocabulary, **placement
        )
    if vocabulary is not None:
        raise SkelfewError("a vocabulary is for untrained models; a checkpoint brings its own")
    checkpoint = open_checkpoint(*find_weights(variant, weights))
    vocabulary = _vocabulary(checkpoint, variant)
    with torch.device("meta"):
        model = XCLIP(_with(variant, vocabulary))
    load_strictly(model, checkpoint, variant)
    return XCLIPTeacher(
        model,
        variant,
        weights=checkpoint.source,
        weights_sha256=checkpoint.sha256,
        trained=checkpoint.metadata.get("trained", "true") == "true",
        vocabulary=vocabulary,
        **placement,
    )


build = build_xclip  # the name by which TEACHERS finds it


def save_teacher(
    teacher: XCLIPTeacher,
    path: str | Path,
    *,
    trained: bool | None = None,
    dtype: torch.dtype = torch.float16,
    about: Values | None = None,
) -> None:
    """Write the model as safetensors that ``build_teacher(weights=path)`` opens.

    ``trained``: whether the weights were learned, by default as the teacher says; ``about``: what
    it was trained on and how well it does, any JSON.
    """
    vocabulary = teacher.vocabulary
    if vocabulary is not None and vocabulary.known is None and trained:
        raise SkelfewError(
            f"{teacher.name} hashes its words; train it with a vocabulary of its own "
            "(build_xclip(..., vocabulary=CompactVocabulary.of(...)))"
        )
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "variant": teacher.name,
        "trained": json.dumps(teacher.trained if trained is None else trained),
        "vocabulary": json.dumps(vocabulary.known if vocabulary else None),
    }
    if about is not None:
        metadata["about"] = json.dumps(about)
    state = teacher.model.state_dict()
    write_tensors(Path(path), {n: t.to("cpu", dtype) for n, t in state.items()}, metadata)


def _random(variant: Variant, seed: int) -> XCLIP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return XCLIP(variant)


def _with(variant: Variant, vocabulary: CompactVocabulary | None) -> Variant:
    return replace(variant, vocabulary=vocabulary.size) if vocabulary else variant


def _vocabulary(checkpoint: Checkpoint, variant: Variant) -> CompactVocabulary | None:
    """Return the compact vocabulary of one of our files; None for CLIP's own."""
    about = checkpoint.metadata
    if about.get("format") != FORMAT:
        return None
    if int(about.get("format_version", 0)) > FORMAT_VERSION:
        raise SkelfewError(f"{checkpoint.source}: written by a newer skelfew; upgrade to read it")
    if about.get("variant") != variant.name:
        raise SkelfewError(
            f"{checkpoint.source}: holds {about.get('variant')}, not {variant.name}; "
            f"ask for --teacher {about.get('variant')}"
        )
    if variant.clip is not None:
        return None
    try:
        known = json.loads(about.get("vocabulary", ""))
    except ValueError:
        raise SkelfewError(f"{checkpoint.source}: its vocabulary is not a JSON list") from None
    rows = checkpoint.state["token_embedding.weight"].shape[0]
    return CompactVocabulary(rows, None if known is None else tuple(known))
