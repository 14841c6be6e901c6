"""Encoders handed to torch.compile: the same numbers, whatever generates the code."""

import copy
import os
import shutil

import pytest
import torch
from torch import Tensor, nn

from skelfew.data.joints.layouts import load_layout
from skelfew.encoders import build_encoder
from skelfew.errors import SkelfewError
from skelfew.training.resolve import check_compiler


def one_pass(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the output, all gradients and all buffers after a pass forward and back."""
    module.zero_grad()
    output = module(x)
    output.square().mean().backward()
    gradients = {f"d {k}": p.grad for k, p in module.named_parameters() if p.grad is not None}
    return {"output": output.detach(), **gradients, **dict(module.named_buffers())}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Gradients are measured by the largest of all: some, and some means, are only rounding."""
    assert found.keys() == expected.keys()
    steepest = max(float(v.abs().max()) for k, v in expected.items() if k.startswith("d "))
    for key, value in expected.items():
        scale = steepest if key.startswith("d ") else float(value.abs().max())
        torch.testing.assert_close(
            found[key],
            value,
            rtol=0,
            atol=1e-4 * scale + 1e-7,
            msg=lambda text, key=key: f"{key}: {text}",
        )


@pytest.mark.slow
def test_a_compiled_encoder_is_equal_also_when_the_number_of_bodies_changes() -> None:
    torch._dynamo.reset()
    layout = load_layout("kinect-v2")
    torch.manual_seed(0)
    plain = build_encoder("ctrgcn", layout, width=0.125, body_pool="masked_mean").train()
    plain._blocks = ["l1", "l2", "l5", "l8"]  # each kind once: compiling takes a second each
    compiled = copy.deepcopy(plain)
    # Traced and differentiated as for a GPU, but run by PyTorch's own kernels: no code to build.
    compiled.compile(backend="aot_eager")
    x = torch.randn(4, 3, 8, 25, 2)
    for absent in (0, 3):
        x[:absent, ..., 1] = 0
        assert_equal(one_pass(compiled, x), one_pass(plain, x))
    # What is kept of it can be loaded by others, and copies of it are not compiled.
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert copy.deepcopy(compiled).eval()(x).shape == (4, plain.feature_dim)


def test_generated_code_is_equal() -> None:
    if not any(map(shutil.which, (os.environ.get("CXX") or "g++", "clang++"))):
        pytest.skip("no C++ compiler here, which torch.compile needs on a processor")
    torch._dynamo.reset()
    torch.manual_seed(0)
    encoder = build_encoder("agcn", load_layout("kinect-v2"), width=0.125).train()
    plain = encoder.get_submodule("l5")
    compiled = copy.deepcopy(plain)
    compiled.compile()
    x = torch.randn(4, 8, 8, 25)
    assert_equal(one_pass(compiled, x), one_pass(plain, x))


def test_without_a_compiler_it_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SkelfewError, match=r"--compile needs a C\+\+ compiler"):
        check_compiler("cpu")
