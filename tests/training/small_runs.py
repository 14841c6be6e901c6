"""Runs that take a second: their settings, and what is compared of them."""

from pathlib import Path
from typing import Any

import torch

from skelfew.config import TrainConfig, override, preset
from skelfew.encoders.checkpoints import load_encoder
from skelfew.runs.folder import Run

TIMING = ("seconds", "samples_per_second", "waiting_share")


SMALL = {
    "encoder.name": "agcn",
    "encoder.width": 0.125,
    "data.frames": 8,
    "threads": 1,
    "transfer.hidden_dim": 32,
    "transfer.projection_dim": 16,
    "transfer.epochs": 2,
    "transfer.batch": 16,
    "traditional.epochs": 2,
    "episodic.episodes": 4,
    "episodic.epoch_episodes": 2,
}


def config(cache: Path, base: str = "recommended", **changes: Any) -> TrainConfig:
    """``changes`` by dotted name, with ``__`` for the dots."""
    root = cache.parent.parent
    settings = {
        **SMALL,
        "inputs.cache": str(cache),
        "protocol": str(root / "manifests" / "protocols" / "tiny.json"),
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    built = preset(base)
    for key, value in settings.items():
        built = override(built, key, value)
    return built


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_encoder(run / "encoder.safetensors")[0].state_dict()


def assert_same_weights(one: Path, other: Path) -> None:
    left, right = weights(one), weights(other)
    assert [k for k in left if not torch.equal(left[k], right[k])] == []


def numbers(run: Path) -> list[dict[str, Any]]:
    rows = Run.open(run).rows()
    return [{k: v for k, v in row.items() if k not in TIMING} for row in rows]
