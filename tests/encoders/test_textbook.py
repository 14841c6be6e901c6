"""The encoders and their faster forms against the plain equations."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.joints.layouts import load_layout
from skelfew.encoders import build_encoder
from skelfew.encoders.fast.channel_rows import largest_of_three
from skelfew.encoders.fast.temporal import temporal_convolution

TEXTBOOK = Path(__file__).parents[2] / "benchmarks" / "support" / "textbook.py"


@pytest.fixture(scope="module")
def textbook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("textbook", TEXTBOOK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def awake(encoder: nn.Module) -> None:
    """Give a value to parameters that start at about zero."""
    with torch.no_grad():
        for key, parameter in encoder.named_parameters():
            if key.endswith(("bn.weight", "alpha")):
                parameter.fill_(0.5)


@pytest.mark.parametrize("name", ["agcn", "ctrgcn"])
def test_encoders_equal_the_textbook(textbook: ModuleType, name: str) -> None:
    torch.manual_seed(0)
    layout = load_layout("kinect-v2")
    encoder = build_encoder(name, layout).double()
    awake(encoder)
    plain = textbook.Textbook(name, layout).double()
    plain.load_state_dict(encoder.state_dict())
    x = torch.randn(2, 3, 9, 25, 2).double().cumsum(dim=2)
    weights = torch.randn(2, 256).double()
    features, expected = encoder(x), plain(x)
    torch.testing.assert_close(features, expected, atol=1e-11, rtol=1e-9)
    (features * weights).sum().backward()
    (expected * weights).sum().backward()
    largest = max(float(p.grad.abs().max()) for p in plain.parameters())
    for (key, ours), theirs in zip(encoder.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            ours.grad,
            theirs.grad,
            atol=1e-12 * largest,
            rtol=1e-8,
            msg=lambda m, k=key: f"{k}: {m}",
        )
    for key, buffer in plain.state_dict().items():  # running statistics among them
        torch.testing.assert_close(encoder.state_dict()[key], buffer)


def test_one_body_of_clips_with_one_equals_the_textbook_on_it(textbook: ModuleType) -> None:
    """Absent bodies are left out: what the textbook makes of the body that is there alone."""
    torch.manual_seed(0)
    layout = load_layout("kinect-v2")
    encoder = build_encoder("agcn", layout, body_pool="masked_mean").eval()
    x = torch.randn(2, 3, 8, 25, 2)
    x[..., 1] = 0
    state = encoder.state_dict()
    for key in [key for key in state if key.startswith("data_bn") and state[key].ndim]:
        state[key] = state[key][:75]  # those of the first body
    alone = textbook.Textbook("agcn", layout, bodies=1).eval()
    alone.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), alone(x[..., :1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", ["ctrgcn", "ctrgcn-pyskl"])
def test_rows_equal_the_plain_form(name: str, train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of two bodies and of one, frames that no stride divides; evaluation too."""
    monkeypatch.setattr("skelfew.encoders.fast.channel_rows._GROUP", 2 * 3 * 16 * 13 * 15)
    torch.manual_seed(0)
    encoder = build_encoder(name, "joints-15", width=0.25, bodies=1).double()
    awake(encoder)
    x = torch.randn(5, 3, 13, 15, 1).double().requires_grad_()
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    encoder(x)  # running statistics of these clips
    encoder.train(train)
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    found = []
    for encoder.fast in (True, False):
        encoder.load_state_dict(state)
        maps = encoder.forward_features(x)
        inputs = [x, *encoder.parameters()]
        found.append([maps, *torch.autograd.grad(maps.square().mean(), inputs)])
        found[-1] += [buffer.clone() for buffer in encoder.buffers()]
    assert not torch.equal(found[0][0], found[1][0]), "both are the same form"
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-8)


def test_rows_with_frozen_weights() -> None:
    """Biases and the input get the gradients that they get in the plain form."""
    torch.manual_seed(0)
    encoder = build_encoder("ctrgcn", "joints-15", width=0.125, bodies=1).double().eval()
    awake(encoder)
    for key, parameter in encoder.named_parameters():
        parameter.requires_grad_(key.endswith("bias"))
    x = torch.randn(3, 3, 8, 15, 1).double().requires_grad_()
    inputs = [x, *(p for p in encoder.parameters() if p.requires_grad)]
    found = []
    for encoder.fast in (True, False):
        found.append(torch.autograd.grad(encoder(x).norm(), inputs))
    torch.testing.assert_close(*found, atol=1e-11, rtol=1e-8)


@pytest.mark.parametrize("stride", [1, 2])
def test_largest_of_three_is_max_pooling(stride: int) -> None:
    """Of equals, and there are many, the first gets the gradient."""
    torch.manual_seed(0)
    x = torch.randint(3, (2, 5, 4, 9)).double().requires_grad_()
    ours, theirs = largest_of_three(x, stride), F.max_pool2d(x, (1, 3), (1, stride), (0, 1))
    assert torch.equal(ours, theirs)
    gradient = torch.randn_like(ours)
    found, expected = (torch.autograd.grad(y, x, gradient) for y in (ours, theirs))
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=1e-14)


def test_bfloat16_is_as_exact_as_in_the_plain_form() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("ctrgcn", "kinect-v2", width=0.25, bodies=1)
    awake(encoder)
    x = torch.randn(4, 3, 16, 25, 1)
    errors = {}
    with torch.no_grad():
        exact = encoder(x)
        for encoder.fast in (True, False):
            with torch.autocast("cpu", torch.bfloat16):
                errors[encoder.fast] = float((encoder(x) - exact).square().mean().sqrt())
    assert errors[True] != errors[False], "both are the same form"
    assert errors[True] < 1.5 * errors[False]


def plain_convolution(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    pad = (weight.shape[2] // 2, 0)
    y = F.conv2d(x.permute(1, 3, 0, 2), weight, bias, (stride, 1), pad)
    return y.permute(2, 0, 3, 1)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 5, 16, 33])
def test_temporal_convolution(frames: int, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skelfew.encoders.fast.temporal._GROUP", 1)  # bodies in several groups
    torch.manual_seed(0)
    x, weight = torch.randn(frames, 5, 7, 16).double(), torch.randn(6, 16, 9, 1).double()
    bias = torch.randn(6).double()
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    ours, theirs = temporal_convolution(*inputs, stride), plain_convolution(*inputs, stride)
    torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-10)
    gradient = torch.randn_like(ours)
    found, expected = (torch.autograd.grad(y, inputs, gradient) for y in (ours, theirs))
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-10)


def test_temporal_convolution_keeps_single_precision() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(64, 2, 25, 64), torch.randn(64, 64, 9, 1) / 24
    exact = plain_convolution(x.double(), weight.double(), torch.zeros(64).double(), 1)
    error = (temporal_convolution(x, weight, torch.zeros(64)) - exact).square().mean().sqrt()
    assert error < 1e-6 * exact.square().mean().sqrt()
