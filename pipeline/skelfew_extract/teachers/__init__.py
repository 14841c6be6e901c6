"""Teachers: frozen models that turn a clip and its class name into f_v and f_t.

A teacher is anything that answers to ``Teacher``; adding one is a module with the functions
``build`` and ``shape_of``, and a line in ``TEACHERS``. Importing this package loads neither torch
nor open_clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew.registry import Registry
from skelfew_extract.teachers.variants import ACTION_VARIANTS, PAPER_TEACHER, VARIANTS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FAMILIES", "PAPER_TEACHER", "TEACHERS", "TEXT", "Precision", "Shape", "Teacher",
    "TextTeacher", "build_teacher", "build_text_teacher", "shape_of",
]  # fmt: skip

TEXT = "text"  # on the command line: a teacher that reads and sees nothing

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Shape:
    """Input format of a teacher, known without its weights.

    Attributes:
        frames, image_size: T frames of a clip, of S x S pixels.
    """

    frames: int
    image_size: int
    width: int
    interpolation: str = "bilinear"  # how crops are resized, ``bilinear`` or ``bicubic``
    # Whether features in bfloat16 have a cosine of 0.9999 with those in float32, so that ``auto``
    # may choose it
    near_in_bfloat16: bool = True


class Teacher(Protocol):
    """Interface of a teacher of videos."""

    name: str
    dim: int  # D, channels of both features
    frames: int  # T, frames of a clip
    image_size: int  # S, side of a frame in pixels
    # Of the colours, per channel, on the scale 0..1; the teacher applies it itself
    mean: tuple[float, float, float]
    std: tuple[float, float, float]  # the same for the standard deviation
    # "video-conditioned" if the text feature depends on the clip, else "class"
    prompting: Literal["video-conditioned", "class"]
    templates: tuple[str, ...]  # texts that are read of a class, ``{}`` for its name
    interpolation: str  # how crops are resized, "bilinear" or "bicubic"

    def encode_text(self, labels: Sequence[str]) -> "Tensor":
        """Return text features (C, D), float32, before any conditioning on a video."""

    def encode_clips(self, frames: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return f_v (B, D), float32 and not normalised, and what ``condition`` needs of the clips.

        Frames are RGB, uint8 (B, T, 3, S, S), on any device. No clip's result depends on the
        others.
        """

    def condition(self, text: "Tensor", context: "Tensor") -> "Tensor":
        """Return f_t (B, D), float32: the text feature (B, D) of each clip's own label."""

    def describe(self) -> Document:
        """Return the provenance of the features, as JSON can hold it."""


class TextTeacher(Protocol):
    """Interface of a teacher that reads sentences and sees no video."""

    name: str
    dim: int  # D, channels of its feature

    def encode_text(self, texts: Sequence[str]) -> "Tensor":
        """Return (n, D), float32, of length one, each the same whatever else is asked for."""

    def describe(self) -> Document:
        """Return the provenance of the features, as JSON can hold it."""


# Name on the command line -> module with a ``build`` and a ``shape_of``.
TEACHERS = Registry(
    "teacher",
    "skelfew.teachers",
    {
        **dict.fromkeys(VARIANTS, "skelfew_extract.teachers.xclip_teacher"),
        **dict.fromkeys(ACTION_VARIANTS, "skelfew_extract.teachers.actionclip"),
    },
)
# The same for names of the form FAMILY:REST.
FAMILIES: dict[str, str] = {"open_clip": "skelfew_extract.teachers.frame_averaged"}


def build_teacher(
    name: str,
    *,
    weights: str | None = None,
    untrained: bool = False,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "float32",
    compile: bool = False,
) -> Teacher:
    """Return the frozen teacher, ready to encode.

    Args:
        name: Key of ``TEACHERS``, or FAMILY:REST with a key of ``FAMILIES``.
        weights: File, folder or Hugging Face repository; None looks for the usual places.
        untrained: Take random weights instead, which ``describe`` then says.
        precision: "bfloat16" computes the large matrix products in it; results are float32.
        compile: Hand the video side to torch.compile: slow to start, faster afterwards.

    Raises:
        SkelfewError: If the teacher or its weights are not to be had; says what to do.
    """
    module = _module(name)
    if untrained and weights is not None:
        raise SkelfewError(f"--untrained and the weights {weights} contradict each other; drop one")
    return module.build(
        name,
        weights=weights,
        untrained=untrained,
        seed=seed,
        device=device,
        precision=precision,
        compile=compile,
    )


def shape_of(name: str) -> Shape:
    """Return what a teacher takes, without its weights; raise SkelfewError if there is none."""
    if name in VARIANTS:  # known without loading torch
        variant = VARIANTS[name]
        return Shape(variant.frames, variant.image_size, variant.width)
    return _module(name).shape_of(name)


def _module(name: str) -> Any:
    """Return the module of a teacher; raise SkelfewError listing what there is."""
    family = name.partition(":")[0] if ":" in name else ""
    place = TEACHERS.get(name) or FAMILIES.get(family)
    if place is None:
        known = [*TEACHERS, TEXT]
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
        families = ", ".join(f"{f}:MODEL/WEIGHTS" for f in FAMILIES)
        raise SkelfewError(f"no teacher is called {name!r}; {hint}, or {families}")
    return TEACHERS.load(name) if name in TEACHERS else import_module(place)


def build_text_teacher(
    *,
    weights: str | None = None,
    untrained: bool = False,
    seed: int = 0,
    device: str = "cpu",
) -> TextTeacher:
    """Return the frozen teacher of ``--teacher text``, ready to encode.

    ``weights`` are a folder or Hugging Face repository of a sentence encoder (None:
    all-MiniLM-L6-v2 in the usual places), or ``open_clip:MODEL/TAG``, ``open_clip:MODEL/FILE``,
    ``xclip:VARIANT``, ``xclip:VARIANT/WEIGHTS``: the text towers of those. Raises SkelfewError if
    they are not to be had.
    """
    kind, _, asked = (weights or "").partition(":")
    if kind in ("open_clip", "xclip"):
        from skelfew_extract.teachers.text_towers import build_clip_text, build_xclip_text

        build = build_clip_text if kind == "open_clip" else build_xclip_text
        return build(asked, untrained=untrained, seed=seed, device=device)
    from skelfew_extract.teachers.sentence import build_sentence_encoder

    return build_sentence_encoder(weights, untrained=untrained, seed=seed, device=device)
