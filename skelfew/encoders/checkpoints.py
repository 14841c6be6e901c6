"""Encoder weights in files: our own safetensors, and the checkpoints others have published."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.layouts import LAYOUTS, layout_from_dict
from skelfew.encoders import build_encoder, completed
from skelfew.encoders.backbone import EncoderWithClassifier
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.errors import SkelfewError
from skelfew.io.documents import Form, read_tensors
from skelfew.io.files import Document, Values, brief, shown
from skelfew.io.pickles import load_torch

_NAMED = 3
# Of which kind what is known of the metadata must be, where it is there.
_METADATA = {
    "encoder": dict, "pipeline": dict, "teacher": dict, "base": list, "dataset": str,
    "protocol": str, "split": str, "init": str, "manifest_sha256": str,
    "fusion": float,
}  # fmt: skip
# Likewise of what all encoders share; ``build_encoder`` looks at what one has of its own.
_CONFIG: dict[str, tuple[type, ...]] = {
    "name": (str,), "layout": (str, dict), "channels": (int,), "bodies": (int,),
    "width": (int, float), "body_pool": (str,), "feature_dim": (int,),
}  # fmt: skip


class WeightsError(SkelfewError):
    """Weights that cannot be used; the message names the file and the parameters."""


FORM = Form(
    "skelfew-encoder",
    "metadata",
    WeightsError,
    absent="no such file; skelfew-train writes one in its run",
    foreign="; public checkpoints are loaded with skelfew.encoders.checkpoints.load_public",
)


def save_encoder(path: str | Path, encoder: SkeletonEncoder, metadata: Values) -> None:
    """Write weights and plain metadata (JSON), replacing an older file only when complete.

    The encoder's configuration and skelfew's version are added under ``encoder`` and ``skelfew``.
    """
    document = {**metadata, "encoder": encoder.config, "skelfew": version("skelfew")}
    FORM.write(Path(path), encoder.state_dict(), document)


def is_own(path: str | Path) -> bool:
    """Whether a file is one of ``save_encoder``: a ``.safetensors`` with a word on its format."""
    if Path(path).suffix != ".safetensors":
        return False
    try:
        return "format_version" in read_tensors(path, tensors=False)[0]
    except (ValueError, OSError):
        return True  # reading it as one of ours says what is wrong


def read_metadata(path: str | Path) -> Document:
    """Return what ``save_encoder`` wrote beside the weights, without reading those."""
    document, _ = FORM.read(path, tensors=False)
    _check_metadata(path, document)
    return document


def _check_metadata(path: str | Path, document: Document) -> None:
    """Raise WeightsError unless what is known of the metadata is of its kind."""
    for key, kind in _METADATA.items():
        value = document.get(key)
        if not isinstance(value, kind) and (value is not None or key == "encoder"):
            raise WeightsError(f"{path}: {key} in its metadata is {shown(value)}")
    if not all(type(c) is int for c in document.get("base") or []):
        raise WeightsError(f"{path}: base in its metadata is {shown(document['base'])}")
    if not 0 <= (document.get("fusion") or 0) <= 1:
        raise WeightsError(f"{path}: fusion in its metadata is {shown(document['fusion'])}")
    config = document["encoder"]
    for key, kinds in _CONFIG.items():
        needed = key in ("name", "layout")
        if key in config or needed:
            value = config.get(key)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise WeightsError(f"{path}: {key} of its encoder is {shown(value)}")


def load_encoder(path: str | Path) -> tuple[SkeletonEncoder, Document]:
    """Build the encoder that a file of ``save_encoder`` describes; return it and the metadata.

    The encoder is in evaluation mode.

    Raises:
        WeightsError: Not such a file, or weights that do not fit the description in it.
    """
    metadata = read_metadata(path)
    config = completed(metadata["encoder"])
    try:
        if isinstance(config["layout"], dict):
            config["layout"] = layout_from_dict(config["layout"], str(path))
        elif config["layout"] not in LAYOUTS:
            raise SkelfewError(f"no joint layout {shown(config['layout'])}")
        encoder = build_encoder(**config)
    except SkelfewError as error:
        raise WeightsError(f"{path}: describes an encoder that cannot be built: {error}") from None
    _fill(encoder, _tensors(path), path)
    return encoder.eval(), metadata


class Opened(NamedTuple):
    """A trained encoder (in evaluation mode) and how it is used."""

    encoder: SkeletonEncoder
    about: Document  # what its file says about it
    pipeline: Pipeline | None  # how skeletons become its input; None if the file does not say
    share: float  # of the encoder beside aligned joints, as ``fusion`` of its run; 0 without these


def open_encoder(path: str | Path) -> Opened:
    """Open a file of ``save_encoder``; errors are those of ``load_encoder``."""
    encoder, about = load_encoder(path)
    given = about.get("pipeline")
    pipeline = None if given is None else Pipeline.from_dict(given, str(path))
    return Opened(encoder, about, pipeline, float(about.get("fusion") or 0))


def load_public(path: str | Path, model: SkeletonEncoder | EncoderWithClassifier) -> list[str]:
    """Load weights of 2s-AGCN, CTR-GCN (also PYSKL's), ST-GCN or torchvision's ResNet-18.

    Nothing is executed. Of ``resnet18`` an embedding keeps the weights that it has.

    Args:
        path: A ``.pt`` or ``.pth`` file with a state dict, bare or under ``state_dict`` or
            ``model``, its names with or without ``module.``; or a ``.safetensors`` file of one.
        model: An encoder, or an ``EncoderWithClassifier``, which takes over the classes of the
            checkpoint if it has as many.

    Returns:
        The names in the checkpoint that were left out.

    Raises:
        WeightsError: Another architecture, joints, bodies or channels; the parameters are named.
    """
    state = _tensors(path) if Path(path).suffix == ".safetensors" else _read_pickled(path)
    encoder = model.encoder if isinstance(model, EncoderWithClassifier) else model
    name = encoder.config["name"]
    from_pyskl = any(re.match(r"(net|gcn)\.\d+\.", key) for key in state)
    if from_pyskl != (name == "ctrgcn-pyskl"):
        wanted = "'ctrgcn-pyskl'" if from_pyskl else "'agcn', 'ctrgcn' or 'stgcn'"
        raise WeightsError(
            f"{path}: written by {'PYSKL' if from_pyskl else 'the authors of the encoder'}, but "
            f"the encoder is {name!r}; build {wanted}, they compute different things"
        )
    if from_pyskl:
        state = _from_pyskl(state, path)
    if "fcn.weight" in state and "fcn.bias" in state:  # ST-GCN's classifier is a 1x1 convolution
        state["fc.weight"] = state.pop("fcn.weight").flatten(1)
        state["fc.bias"] = state.pop("fcn.bias")
    left_out = [key for key in state if key.startswith("fc.")]
    head = {key.removeprefix("fc."): state.pop(key) for key in left_out}
    if name == "resnet18":
        own = encoder.state_dict()
        absent = {key: own[key] for key in own if key.startswith("embedder.")}
        # Files older than PyTorch 0.4.1 do not count batches.
        absent |= {k: own[k] for k in own if k.endswith("num_batches_tracked") and k not in state}
        state = {**absent, **state}
    _fill(encoder, state, path)
    if isinstance(model, EncoderWithClassifier):
        own = {key: value.shape for key, value in model.fc.state_dict().items()}
        if own == {key: value.shape for key, value in head.items()}:
            model.fc.load_state_dict(head)
            left_out = []
    return left_out


def load_initial(path: str | Path, encoder: SkeletonEncoder) -> list[str]:
    """Start ``encoder`` from our own ``.safetensors`` or weights of others; see ``load_public``."""
    if not is_own(path):
        return load_public(path, encoder)
    metadata = read_metadata(path)
    if metadata["encoder"]["name"] != encoder.config["name"]:
        raise WeightsError(
            f"{path}: weights of {metadata['encoder']['name']!r}, but the encoder is "
            f"{encoder.config['name']!r}"
        )
    _fill(encoder, _tensors(path), path)
    return []


def _tensors(path: str | Path) -> dict[str, Tensor]:
    try:
        return read_tensors(path)[1]
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path}: cannot be read ({brief(error)})") from None


def _read_pickled(path: str | Path) -> dict[str, Tensor]:
    try:
        content = load_torch(path)
    except SkelfewError as error:
        raise WeightsError(str(error)) from None
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path}: holds no state dict (names and tensors)")
    return {re.sub(r"^(module\.|backbone\.)+", "", str(k)): v for k, v in content.items()}


def _from_pyskl(state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Rename PYSKL's CTR-GCN, and turn its graphs round.

    There, joint v gathers sum_u R_uv x_u with R_uv = alpha conv4(tanh(p_u - q_v)) + A_uv; here,
    joint u gathers sum_v R_uv x_v. So A is transposed, conv1 (p) and conv2 (q) change places, and
    as tanh is odd conv4's weight changes its sign.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key == "A":  # the skeleton, from which the blocks' own graphs started
            continue
        if key.startswith("cls_head.fc_cls."):
            renamed[key.replace("cls_head.fc_cls.", "fc.")] = value
            continue
        key = re.sub(r"^(?:net|gcn)\.(\d+)\.", lambda found: f"l{int(found[1]) + 1}.", key)
        if re.search(r"\.gcn1\.A$", key):
            key, value = f"{key[:-1]}PA", value.mT.contiguous()
        elif ".conv4.weight" in key:
            value = -value
        elif found := re.search(r"\.conv([12])\.(weight|bias)$", key):
            key = f"{key[: found.start()]}.conv{3 - int(found[1])}.{found[2]}"
        renamed[key] = value
    if not any(".gcn1.alpha" in key for key in renamed):
        raise WeightsError(
            f"{path}: a PYSKL checkpoint, but not of CTR-GCN; its AAGCN and ST-GCN have other "
            "layers than the encoders here"
        )
    return renamed


def _fill(encoder: SkeletonEncoder, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Load all weights, or raise WeightsError naming what is missing, surplus or of other shape."""
    own = encoder.state_dict()
    problems = []
    missing = [key for key in own if key not in state]
    surplus = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    for what, keys in (("without", missing), ("with unknown", surplus), ("with", shapes)):
        if keys:
            more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
            problems.append(f"{what} {', '.join(keys[:_NAMED])}{more}")
    if problems:
        config = ", ".join(
            f"{key}={encoder.config[key]!r}"
            for key in ("channels", "bodies", "width", *sorted(set(encoder.config) - set(_CONFIG)))
        )
        raise WeightsError(
            f"{path}: the weights do not fit {encoder.config['name']} ({encoder.joints} joints, "
            f"{config}): {'; '.join(problems)}"
        )
    encoder.load_state_dict(state)
