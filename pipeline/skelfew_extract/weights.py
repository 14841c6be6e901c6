"""Checkpoints of X-CLIP: open them without running anything, fit them to the model."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from skelfew.errors import SkelfewError
from skelfew.io.documents import read_tensors
from skelfew.io.files import brief
from skelfew.io.pickles import load_torch
from skelfew_extract.teachers.variants import VARIANTS, Variant
from skelfew_extract.teachers.xclip_names import State, to_native
from skelfew_extract.weight_files import weight_files, weights_sha256

_IS_ACTIONCLIP = "{file}: ActionCLIP, not X-CLIP; ask for --teacher actionclip-base-patch16"


# ---- files ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """An opened X-CLIP checkpoint."""

    state: State = field(repr=False)
    source: str  # what it was read from, for messages and provenance: file, folder or hub id
    sha256: str  # of the file; for shards, of the lines "sha256 name" in order of name
    metadata: dict[str, str]  # text that the file carries about itself (safetensors only)


def open_checkpoint(path: Path, source: str | None = None) -> Checkpoint:
    """Read an X-CLIP checkpoint file, or the one in a folder, of any supported kind.

    Raises SkelfewError: there is none, it cannot be read, it would run code, or it is not X-CLIP.
    """
    files = weight_files(path)
    state: State = {}
    metadata: dict[str, str] = {}
    for file in files:
        tensors, about = _read(file)
        state |= tensors
        metadata |= about
    return Checkpoint(_as_native(state, path), source or path.name, weights_sha256(files), metadata)


def _read(file: Path) -> tuple[State, dict[str, str]]:
    if file.suffix != ".safetensors":
        return _tensors(load_torch(file), file), {}
    try:
        metadata, state = read_tensors(file)
        return state, metadata
    except (ValueError, OSError) as error:
        raise SkelfewError(f"{file}: not readable as safetensors ({brief(error)})") from None


def _tensors(content: object, file: Path) -> State:
    """Return the state dict of a checkpoint: under "model", with or without "module."."""
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if isinstance(content, Mapping) and "fusion_model_state_dict" in content:
        raise SkelfewError(_IS_ACTIONCLIP.format(file=file))
    if not isinstance(content, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise SkelfewError(f"{file}: a PyTorch file, but not a state dict of tensors")
    wrapped = bool(content) and all(name.startswith("module.") for name in content)
    return {name.removeprefix("module.") if wrapped else name: t for name, t in content.items()}


def _as_native(state: State, path: Path) -> State:
    if any(name.startswith("vision_model.") for name in state):
        try:
            state = to_native(state)
        except (RuntimeError, ValueError, IndexError, KeyError) as error:
            raise SkelfewError(
                f"{path}: tensors that are no X-CLIP's ({brief(error)}); download it again"
            ) from None
    if "prompts_visual_proj" in state:
        return state
    if "visual.proj" in state or "visual_projection.weight" in state:
        raise SkelfewError(
            f"{path}: plain CLIP, not X-CLIP: it has no cross-frame attention, multi-frame "
            "integration or prompt generator, and random ones would make the teacher random; "
            "use weights such as microsoft/xclip-base-patch16"
        )
    if any(name.startswith("adapter.") for name in state):
        raise SkelfewError(_IS_ACTIONCLIP.format(file=path))
    raise SkelfewError(
        f"{path}: not an X-CLIP checkpoint: none of its {len(state)} tensors is named "
        "prompts_visual_proj or prompts_visual_projection; the first is "
        f"{brief(next(iter(state), None))}"
    )


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes and float32 values, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()


# ---- into the model ------------------------------------------------------------------------


def load_strictly(model: nn.Module, checkpoint: Checkpoint, variant: Variant) -> None:
    """Give ``model`` the checkpoint's parameters as float32, all of them and nothing left over.

    It may be on the meta device: parameters are replaced, not written to. Raises SkelfewError if
    names or shapes differ; names the variant that fits, if one does.
    """
    state, expected = checkpoint.state, model.state_dict()
    position = state.get("mit.positional_embedding")
    if position is not None and position.ndim == 3 and position.shape[1] != variant.frames:
        raise SkelfewError(
            f"{checkpoint.source}: trained on clips of {position.shape[1]} frames, but "
            f"{variant.name} takes {variant.frames}; {_advice(state)}"
        )
    wrong = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    if any(wrong.values()):
        listed = "; ".join(f"{len(n)} {kind}: {few(n)}" for kind, n in wrong.items() if n)
        raise SkelfewError(
            f"{checkpoint.source}: does not fit {variant.name} ({listed}); {_advice(state)}"
        )
    model.load_state_dict({name: t.float() for name, t in state.items()}, assign=True)


def few(names: Iterable[str], count: int = 3) -> str:
    """Return the first names in order, separated by commas."""
    names = sorted(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _advice(state: State) -> str:
    fitting = [variant.name for variant in VARIANTS.values() if fits(state, variant)]
    if not fitting:
        return "no known variant has these shapes"
    return f"the shapes are those of {', '.join(fitting)}"


def fits(state: Mapping[str, Tensor], variant: Variant) -> bool:
    """Whether the shapes of a native state dict are those of a variant, as far as is looked."""
    shapes = {
        "visual.conv1.weight": (variant.width, 3, variant.patch, variant.patch),
        "visual.positional_embedding": (variant.patches + 1, variant.width),
        "mit.positional_embedding": (1, variant.frames, variant.dim),
        "text_projection": (variant.text_width, variant.dim),
    }
    return all(
        name in state and tuple(state[name].shape) == shape for name, shape in shapes.items()
    )
