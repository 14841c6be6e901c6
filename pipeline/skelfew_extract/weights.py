"""Checkpoints of X-CLIP: find them, open them without running anything, fit them to the model."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from skelfew.errors import SkelfewError
from skelfew.io.documents import read_tensors
from skelfew.io.files import brief, file_sha256, read_json_object
from skelfew.io.paths import below
from skelfew.io.pickles import load_torch
from skelfew_extract.teachers.variants import VARIANTS, Variant
from skelfew_extract.teachers.xclip_names import State, to_native

FOLDER = Path("weights")  # where weights are looked for, below the working directory
SHIPPED = Path(__file__).parent / "teachers"  # weights that come with the package: NAME.safetensors

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin"}
_TIMEOUT_S = 5
_IS_ACTIONCLIP = "{file}: ActionCLIP, not X-CLIP; ask for --teacher actionclip-base-patch16"


# ---- where ---------------------------------------------------------------------------------


def find_weights(variant: Variant, weights: str | None = None) -> tuple[Path, str]:
    """Return the file or folder of the weights, and how to call it in provenance.

    Args:
        weights: File, folder, or Hugging Face repository; None looks into ``weights/``.

    Raises:
        SkelfewError: If there is nothing there; says which file to put where.
    """
    if weights is None:
        return _default(variant)
    path = Path(weights)
    if path.exists():
        return path, path.name
    if _HUB_ID.fullmatch(weights) and path.suffix not in _SUFFIXES and not path.parent.exists():
        return _download(weights, variant), weights
    raise SkelfewError(f"{weights}: no such file or folder; {where_to_put(variant)}")


def where_to_put(variant: Variant) -> str:
    """Return the advice that ends every message about missing weights."""
    places = []
    if variant.hub:
        places.append(
            f"model.safetensors or pytorch_model.bin of huggingface.co/{variant.hub} "
            f"into {FOLDER / variant.name}/"
        )
    if variant.file:
        places.append(f"the official {variant.file} into {FOLDER}/")
    if not places:
        places.append(f"{variant.name}.safetensors into {FOLDER}/")
    return f"put {', or '.join(places)}, or pass --untrained for seeded random weights"


def _default(variant: Variant) -> tuple[Path, str]:
    candidates = [
        FOLDER / variant.name,
        FOLDER / f"{variant.name}.safetensors",
        *([FOLDER / variant.file] if variant.file else []),
        SHIPPED / f"{variant.name}.safetensors",
    ]
    for path in candidates:
        if path.exists():
            return path, path.name
    raise SkelfewError(f"no weights for {variant.name}: {where_to_put(variant)}")


def _download(repository: str, variant: Variant) -> Path:
    """Return a file of the Hugging Face repository: from the local cache, else over the network."""
    try:
        from huggingface_hub import hf_hub_download, model_info, try_to_load_from_cache
    except ImportError:
        raise SkelfewError(
            f"{repository}: no such folder, and huggingface_hub is not installed to download it; "
            f"{where_to_put(variant)}"
        ) from None
    for name in _HUB_FILES:
        if isinstance(cached := try_to_load_from_cache(repository, name), str):
            return Path(cached)
    try:
        # Asked first because it fails at once; a download tries again for a minute.
        held = {
            file.rfilename for file in model_info(repository, timeout=_TIMEOUT_S).siblings or ()
        }
        for name in _HUB_FILES:
            if name in held:
                return Path(hf_hub_download(repository, name, etag_timeout=_TIMEOUT_S))
        reason = f"it holds neither {' nor '.join(_HUB_FILES)}"
    except Exception as error:  # which ones, depends on the HTTP library of the hub's client
        reason = type(error).__name__
    raise SkelfewError(
        f"{repository}: not a folder here, and not to be had from the hub ({reason}); "
        f"{where_to_put(variant)}"
    )


# ---- files ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """An opened X-CLIP checkpoint.

    Attributes:
        source: What it was read from, for messages and provenance: file, folder or hub id.
        sha256: Of the file; for shards, of the lines "sha256 name" in order of name.
        metadata: Text that the file carries about itself (safetensors only).
    """

    state: State = field(repr=False)
    source: str
    sha256: str
    metadata: dict[str, str]


def open_checkpoint(path: Path, source: str | None = None) -> Checkpoint:
    """Read an X-CLIP checkpoint file, or the one in a folder, of any supported kind.

    Raises:
        SkelfewError: If there is none, it cannot be read, it would run code, or it is not X-CLIP.
    """
    files = weight_files(path)
    state: State = {}
    metadata: dict[str, str] = {}
    for file in files:
        tensors, about = _read(file)
        state |= tensors
        metadata |= about
    return Checkpoint(_as_native(state, path), source or path.name, weights_sha256(files), metadata)


def weight_files(path: Path) -> list[Path]:
    """Return the file at ``path``, or the weight file, or its shards, in that folder."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SkelfewError(f"{path}: no such file or folder; give weights here")
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return [path / name]
        if (index := path / f"{name}.index.json").is_file():
            return _shards(index)
    found = [p for p in sorted(path.iterdir()) if p.suffix in {".safetensors", ".pth", ".pt"}]
    if len(found) == 1:
        return found
    raise SkelfewError(
        f"{path}: holds {len(found)} weight files; expected model.safetensors, "
        "pytorch_model.bin or one .pth file; name the file itself"
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(read_json_object(index)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise SkelfewError(f"{index}: not a weight index; download the folder again") from None
    shards = []
    for name in names:
        shard = below(index.parent, name, index, links=True)  # the hub's own cache is links
        if not shard.is_file():
            raise SkelfewError(f"{index}: the shard {name} is missing beside it; download it too")
        shards.append(shard)
    return shards


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


def weights_sha256(files: list[Path]) -> str:
    """Return the SHA-256 of a file; of several, of the lines "sha256 name"."""
    digests = [file_sha256(file) for file in files]
    if len(files) == 1:
        return digests[0]
    lines = [f"{digest} {file.name}\n" for digest, file in zip(digests, files, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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

    The model may be on the meta device: its parameters are replaced, not written to.

    Raises:
        SkelfewError: If names or shapes differ; names the variant that fits, if one does.
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
