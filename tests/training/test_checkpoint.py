"""Checkpoints: exact, atomic, and nothing in them can run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from skelfew.config import OptimizerConfig
from skelfew.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from skelfew.training.optim import Optimizer, build_optimizer, parameter_groups


def train(model: nn.Module, optimizer: Optimizer, steps: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        loss = model(torch.randn(8, 3, generator=draw)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lars"])
def test_optimiser_state_survives_bit_by_bit(tmp_path: Path, name: str) -> None:
    config = OptimizerConfig(name, lr=0.01)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = build_optimizer(parameter_groups([(model, 1.0)], config), config)
    train(model, optimizer, 5, seed=1)
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(
        path, {"module": model.state_dict(), "optimizer": optimizer_tensors(optimizer)}, {}
    )
    train(model, optimizer, 5, seed=2)

    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    second = build_optimizer(parameter_groups([(other, 1.0)], config), config)
    groups, _ = load_checkpoint(path)
    other.load_state_dict(groups["module"])
    load_optimizer_tensors(second, groups["optimizer"])
    train(other, second, 5, seed=2)
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_scalars_are_exact(tmp_path: Path) -> None:
    scalars = {"sum": 0.1 + 0.2, "best": [1 / 3, 4], "nested": {"n": 7}}
    save_checkpoint(tmp_path / "c.safetensors", {"m": {"x": torch.ones(1)}}, scalars)
    assert load_checkpoint(tmp_path / "c.safetensors")[1] == scalars


def test_tensors_that_share_memory_are_kept_apart(tmp_path: Path) -> None:
    x = torch.arange(6.0)
    save_checkpoint(tmp_path / "c.safetensors", {"m": {"x": x, "y": x.view(2, 3).T}}, {})
    groups, _ = load_checkpoint(tmp_path / "c.safetensors")
    assert torch.equal(groups["m"]["y"], x.view(2, 3).T)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "absent.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.ones(1)}, foreign)
    with pytest.raises(CheckpointError, match="not a skelfew-checkpoint"):
        load_checkpoint(foreign)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(foreign.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_checkpoint(torn)
    newer = tmp_path / "newer.safetensors"
    header = {"format": "skelfew-checkpoint", "format_version": "2", "scalars": "{}"}
    save_file({"x": torch.ones(1)}, newer, metadata=header)
    with pytest.raises(CheckpointError, match="upgrade"):
        load_checkpoint(newer)
