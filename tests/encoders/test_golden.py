"""AGCN, CTR-GCN and ST-GCN against numbers of the public implementations."""

import json
import math
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from skelfew.data.joints.layouts import load_layout
from skelfew.encoders import build_encoder
from skelfew.encoders.backbone import EncoderWithClassifier
from skelfew.encoders.graph import adjacency, partition

NAMES = ("agcn", "ctrgcn", "stgcn")


@cache
def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def fill(key: str, value: Tensor) -> Tensor:
    """Return the deterministic content of one state entry."""
    if not value.is_floating_point():
        return torch.zeros_like(value)
    phase = 2 * math.pi * zlib.crc32(key.encode()) / 2**32
    i = torch.arange(1, value.numel() + 1, dtype=torch.float64)
    s = torch.sin(0.37 * i + phase).view(value.shape)
    if key == "A":  # the skeleton
        return value
    if key.endswith("PA"):  # in the golden files these passed through single precision
        return (0.3 + 0.1 * s).float().double()
    if key.endswith("alpha") or key.startswith("edge_importance"):
        return 0.3 + 0.1 * s
    if value.ndim >= 2:
        return s * 1.2 / math.sqrt(value.numel() / value.shape[0])
    if key.endswith("running_var"):
        return 1 + 0.5 * s**2
    if key.endswith("weight"):
        return 1 + 0.1 * s
    return 0.1 * s


def filled(name: str) -> EncoderWithClassifier:
    encoder = build_encoder(name, "kinect-v2")
    model = EncoderWithClassifier(encoder, 7).double()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            value.copy_(fill(public_name(name, key), value))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # as when the golden gradients were computed
    return model


def public_name(name: str, key: str) -> str:
    """Return the name that a parameter of the model has in the checkpoints of the authors."""
    key = key.removeprefix("encoder.")
    return key.replace("fc.", "fcn.") if name == "stgcn" else key


def clips(n: int, t: int) -> Tensor:
    """Return the reference input (n, 3, t, 25, 2)."""
    axes = [torch.arange(size, dtype=torch.float64) for size in (n, 3, t, 25, 2)]
    i, c, f, v, m = torch.meshgrid(*axes, indexing="ij")
    return torch.sin(0.1 * f * (1 + 0.2 * i) + 0.7 * c + 0.3 * v + 1.1 * m) + 0.1 * i


@pytest.mark.parametrize("name", NAMES)
def test_adjacency(golden: Path, name: str) -> None:
    expected = read(golden / f"{name}.json")
    subsets = (partition if name == "stgcn" else adjacency)(load_layout("kinect-v2"))
    assert [s.nonzero().tolist() for s in subsets] == expected["A_nonzero"]
    sums = subsets.sum(dim=(1, 2)).tolist()
    assert sums == pytest.approx(expected["A_sum_per_subset"], abs=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes(golden: Path, name: str) -> None:
    expected = read(golden / f"{name}.json")
    state = EncoderWithClassifier(build_encoder(name, "kinect-v2"), 7).state_dict()
    shapes = {public_name(name, key): list(value.shape) for key, value in state.items()}
    if name == "stgcn":  # a 1x1 convolution there
        shapes["fcn.weight"] += [1, 1]
    assert shapes == expected["state_keys"]


@pytest.mark.parametrize("frames", [64, 20])
@pytest.mark.parametrize("name", NAMES)
def test_features_and_logits(golden: Path, name: str, frames: int) -> None:
    expected = read(golden / f"{name}.json")[f"T{frames}"]
    model = filled(name).eval()
    x, seen = clips(2, frames), []
    model.encoder.register_forward_hook(lambda module, given, features: seen.append(features))
    with torch.no_grad():
        logits = model(x)
    (features,) = seen
    torch.testing.assert_close(
        features, features.new_tensor(expected["feat256"]), atol=1e-8, rtol=0
    )
    torch.testing.assert_close(logits, logits.new_tensor(expected["logits"]), atol=1e-8, rtol=0)
    if frames == 20:  # once is enough: a pass takes a second
        with torch.no_grad():
            maps = model.encoder.forward_features(x)
        assert maps.shape == (2, 2, 256, frames // 4, 25)
        torch.testing.assert_close(maps.mean(dim=(1, 3, 4)), features)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(golden: Path, name: str) -> None:
    expected = read(golden / f"{name}.json")["train_mode"]
    model = filled(name).train()
    loss = model(clips(4, 20)).square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-6)
    norms = {
        public_name(name, key): value.grad.norm().item()
        for key, value in model.named_parameters()
        if value.grad is not None
    }
    for key, norm in expected["grad_norms"].items():
        assert norms[key] == pytest.approx(norm, rel=1e-6, abs=1e-12), key
