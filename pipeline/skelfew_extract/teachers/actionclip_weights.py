"""Checkpoints of ActionCLIP in the two spellings there are: the authors' and mmaction2's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.io.documents import read_tensors
from skelfew.io.files import Values, brief, file_sha256
from skelfew.io.pickles import load_torch
from skelfew_extract.teachers.variants import ACTION_VARIANTS, VARIANTS, ActionVariant
from skelfew_extract.weights import few, fits

ORIGINAL_EPS, PORTED_EPS = 1e-12, 1e-5
_POSITIONS = "fusion.frame_position_embeddings.weight"
# What OpenAI's own files hold beside parameters.
_CONSTANTS = {"clip.input_resolution", "clip.context_length", "clip.vocab_size"}


@dataclass(frozen=True)
class ActionCheckpoint:
    """An opened checkpoint: ``clip.*`` and ``fusion.*`` tensors; ``ported``: mmaction2 wrote it."""

    state: dict[str, Tensor] = field(repr=False)
    path: Path
    sha256: str
    ported: bool

    @property
    def rows(self) -> int:
        """Positions of the fusion: 77 in the original, T in the port."""
        return int(self.state[_POSITIONS].shape[0])

    @property
    def layers(self) -> int:
        """Blocks of the fusion."""
        start = "fusion.transformer.resblocks."
        names = (name.removeprefix(start) for name in self.state if name.startswith(start))
        return len({name.partition(".")[0] for name in names})

    @property
    def eps(self) -> float:
        """Epsilon of the fusion's layer norms."""
        return PORTED_EPS if self.ported else ORIGINAL_EPS

    @property
    def advice(self) -> str:
        """Description of the file, as a clause."""
        fitting = [v.name for v in ACTION_VARIANTS.values() if self._fits(v)]
        if not fitting:
            return "no known variant has these shapes"
        return f"the shapes are those of {', '.join(fitting)}"

    def _fits(self, variant: ActionVariant) -> bool:
        patches = (variant.image_size // variant.patch) ** 2
        shapes = {
            "clip.visual.conv1.weight": (variant.width, 3, variant.patch, variant.patch),
            "clip.visual.positional_embedding": (patches + 1, variant.width),
            "clip.text_projection": (variant.text_width, variant.dim),
        }
        frames = self.rows == variant.frames if self.ported else self.rows >= variant.frames
        return frames and not any(
            name not in self.state or tuple(self.state[name].shape) != shape
            for name, shape in shapes.items()
        )


def open_actionclip(path: Path) -> ActionCheckpoint:
    """Read a checkpoint of either spelling; raise SkelfewError saying what else it is."""
    if path.suffix == ".safetensors":
        try:
            content: Any = read_tensors(path)[1]
        except (ValueError, OSError) as error:
            raise SkelfewError(f"{path}: not readable as safetensors ({brief(error)})") from None
    else:
        content = load_torch(path)
    sha256 = file_sha256(path)
    if not isinstance(content, Mapping):
        raise SkelfewError(f"{path}: holds no checkpoint, but a {type(content).__name__}")
    if {"model_state_dict", "fusion_model_state_dict"} <= set(content):
        clip = _named("clip.", content["model_state_dict"], path)
        fusion = _named("fusion.", content["fusion_model_state_dict"], path)
        return ActionCheckpoint(_with_positions({**clip, **fusion}, path), path, sha256, False)
    inner = content.get("state_dict", content)
    state = _named("", inner, path)
    if any(name.startswith("adapter.") for name in state):
        renamed = {
            f"fusion.{name.removeprefix('adapter.')}" if name.startswith("adapter.") else name: t
            for name, t in state.items()
        }
        return ActionCheckpoint(_with_positions(renamed, path), path, sha256, True)
    raise SkelfewError(f"{path}: not an ActionCLIP checkpoint: {_what_else(state, content)}")


def _named(prefix: str, state: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(state, Mapping):
        raise SkelfewError(f"{path}: not an ActionCLIP checkpoint: it holds no state dict")
    found = {f"{prefix}{str(name).removeprefix('module.')}": t for name, t in state.items()}
    return {name: t for name, t in found.items() if isinstance(t, Tensor)} if prefix else found


def _with_positions(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    state = {name: t for name, t in state.items() if name not in _CONSTANTS}
    if _POSITIONS not in state:
        raise SkelfewError(
            f"{path}: an ActionCLIP checkpoint without {_POSITIONS}: its fusion is not the "
            "transformer of the published models (Transf)"
        )
    return state


def _what_else(state: Values, content: Values) -> str:
    if isinstance(content.get("model"), Mapping):
        state = {str(n).removeprefix("module."): t for n, t in content["model"].items()}
    if "prompts_visual_proj" in state or "prompts_visual_projection" in state:
        likely = [v.name for v in VARIANTS.values() if fits(state, v)]
        return f"it is X-CLIP; ask for --teacher {likely[0] if likely else 'xclip-base-patch16'}"
    if "visual.proj" in state:
        return (
            "it is plain CLIP, without the fusion over time; ask for --teacher open_clip:MODEL/FILE"
        )
    return f"none of its tensors begins with adapter., the first is {next(iter(state), None)}"


def problems(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> str:
    """Return what keeps a state dict from fitting, with the first names; "" if nothing does."""
    wrong = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {shape}"
            for name, shape in expected.items()
            if name in state and tuple(state[name].shape) != shape
        ],
    }
    return "; ".join(f"{len(n)} {kind}: {few(n)}" for kind, n in wrong.items() if n)
