"""The two maps into the space where skeletons and teacher features meet, kept beside the encoder.

A stage that trains such maps answers to ``Bridging``. With them a skeleton can be compared with the
text of a class that no encoder was trained on (skelfew/evaluation/zeroshot.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from skelfew.cache import TeacherCache
from skelfew.config.stages import PassesConfig, TeacherConfig
from skelfew.errors import SkelfewError
from skelfew.io.documents import Form
from skelfew.io.files import Document, brief
from skelfew.training.data import TrainingData
from skelfew.training.stages.byol import Orthonormal, ZeroPad

FORM = Form("skelfew-bridge", "about")


@runtime_checkable
class Bridging(Protocol):
    """A stage, with targets, in whose space skeletons and teacher features meet."""

    data: TrainingData

    def bridge(self) -> tuple[nn.Module, nn.Module]:
        """Return the maps of encoder features (N, d) and of targets (N, D), both to (N, P)."""


@dataclass(frozen=True)
class Bridge:
    """Both maps, in evaluation mode."""

    skeleton: nn.Sequential  # encoder features (N, d) to (N, P): predictor and projector
    teacher: nn.Sequential  # teacher features (N, D) to (N, P): the target projector
    # What to add to a class text (D,) so that texts lie where targets lay, on average over the base
    # samples; None if the cache had no class texts
    shift: Tensor | None = None
    # Plain values: stage, teacher, width D, target form, representation
    about: Document = field(default_factory=dict)


def bridge_path(run: Path, stage: str) -> Path:
    """Return where the bridge of a stage lies in a run folder."""
    return run / f"bridge.{stage}.safetensors"


def text_shift(data: TrainingData, texts: Mapping[int, np.ndarray]) -> Tensor | None:
    """Return the mean target (n, V, D) minus the mean class text of the training samples, (D,).

    A target is usually more than a text: f_v is added, and f_t knows the clip. The difference of
    the means is what a text lacks whatever its class; only base classes are looked at.
    """
    if data.targets is None or not set(data.classes) <= set(texts):
        return None
    own = torch.from_numpy(np.stack([texts[c] for c in data.classes]))
    counts = data.labels.bincount(minlength=len(data.classes)).to(own)
    mean_text = (counts @ own) / counts.sum()
    return data.targets.mean(dim=(0, 1)).cpu() - mean_text


def bridge_of(stage: Bridging, cache: TeacherCache, settings: PassesConfig) -> Bridge | None:
    """Return what a stage learned of the way from skeletons to texts; None without texts."""
    about = {"teacher": cache.attrs.get("teacher"), "width": cache.dim}
    if isinstance(settings, TeacherConfig):
        about["representation"] = settings.representation
        about["target_form"] = settings.target_form
        shift = text_shift(stage.data, cache.class_texts(settings.target_form))
    elif set(stage.data.classes) <= set(cache.class_texts()):
        about |= {"representation": "f_t", "target_form": "unit"}
        shift = torch.zeros(cache.dim)
    else:
        return None
    skeleton, teacher = (nn.Sequential(part) for part in stage.bridge())
    return Bridge(skeleton, teacher, shift, about)


def save_bridge(path: Path, bridge: Bridge) -> None:
    """Write both maps into one safetensors file, replacing an older one only when complete."""
    tensors: dict[str, Tensor] = {} if bridge.shift is None else {"shift": bridge.shift}
    layers: dict[str, list[list[Any]]] = {}
    for name, chain in (("skeleton", bridge.skeleton), ("teacher", bridge.teacher)):
        flat = nn.Sequential(*_flat(chain))
        layers[name] = [_describe(layer) for layer in flat]
        tensors |= {f"{name}.{key}": value for key, value in flat.state_dict().items()}
    FORM.write(path, tensors, {**bridge.about, "layers": layers})


def load_bridge(path: Path) -> Bridge:
    """Read what ``save_bridge`` wrote; raise SkelfewError if it is not there or not that."""
    about, tensors = FORM.read(path)
    chains = {}
    try:
        layers = about.pop("layers")
        for name in ("skeleton", "teacher"):
            with torch.device("meta"):  # takes no memory, whatever size is claimed
                chain = nn.Sequential(*map(_build, layers[name]))
            own = f"{name}."
            mine = {k.removeprefix(own): t for k, t in tensors.items() if k.startswith(own)}
            shapes = {key: value.shape for key, value in chain.state_dict().items()}
            if shapes != {key: value.shape for key, value in mine.items()}:
                raise ValueError(f"weights of {name} do not fit")
            chain.to_empty(device="cpu").load_state_dict(mine)
            chains[name] = chain.eval().requires_grad_(False)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        raise SkelfewError(
            f"{path}: damaged, its layers and weights cannot be read "
            f"({type(error).__name__}: {brief(error)}); train again"
        ) from None
    return Bridge(chains["skeleton"], chains["teacher"], tensors.get("shift"), about)


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of nested sequences in order; what passes its input on is left out."""
    if isinstance(module, nn.Sequential):
        for part in module:
            yield from _flat(part)
    elif not isinstance(module, nn.Identity):
        yield module


def _describe(layer: nn.Module) -> list[Any]:
    if isinstance(layer, nn.Linear):
        return ["linear", layer.in_features, layer.out_features, layer.bias is not None]
    if isinstance(layer, nn.BatchNorm1d):
        return ["batch_norm", layer.num_features]
    if isinstance(layer, nn.ReLU):
        return ["relu"]
    if isinstance(layer, ZeroPad):
        return ["zero_pad", layer.width]
    if isinstance(layer, Orthonormal):
        return ["orthonormal", *layer.matrix.shape]
    raise ValueError(f"a bridge with {type(layer).__name__} cannot be kept")


def _build(described: list[Any]) -> nn.Module:
    kind, *numbers = described
    if kind == "linear":
        return nn.Linear(numbers[0], numbers[1], bias=numbers[2])
    makers = {
        "batch_norm": nn.BatchNorm1d,
        "relu": nn.ReLU,
        "zero_pad": ZeroPad,
        "orthonormal": Orthonormal,
    }
    if kind not in makers:
        raise SkelfewError(f"a bridge with a layer {kind!r} comes from a newer skelfew; upgrade")
    return makers[kind](*numbers)
