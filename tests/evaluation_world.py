"""A tiny data set, and runs on it, for the tests of evaluation: real files, small."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelfew.config import InputConfig, TrainConfig
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.manifest import Manifest, Sample
from skelfew.data.store import Skeleton, SkeletonStore
from skelfew.data.store_writer import SkeletonStoreWriter
from skelfew.encoders import build_encoder
from skelfew.encoders.checkpoints import save_encoder
from skelfew.runs.folder import Run, write_json
from skelfew.runs.inputs import find_inputs

LAYOUT, JOINTS = "kinect-v1", 20
BASE, NOVEL = (1, 2), (3, 4, 5)
PROTOCOL = {
    "name": "tiny",
    "dataset": "tiny",
    "source": "tests",
    "base": list(BASE),
    "novel": list(NOVEL),
    "exemplar_rule": {"order": ["subject"], "distinct": "subject"},
    "exclude_queries": {"synchronised_views": ["c3_s2"]},
    "expected_queries": {"1": 21},
}
SPLITS = {
    "name": "tiny-splits",
    "dataset": "tiny",
    "source": "tests",
    "splits": [{"base": [1, 2], "novel": [3, 4, 5]}, {"base": [4, 5], "novel": [1, 2, 3]}],
    "exemplar_rule": {"order": ["subject"], "distinct": "subject"},
}


def make_data(root: Path, classes: int = 5, each: int = 8) -> tuple[Manifest, SkeletonStore]:
    """Write manifests/tiny.csv, data/tiny.h5 and two protocols: every class a motion of its own."""
    rng = np.random.default_rng(0)
    samples = [
        Sample(f"c{c}_s{s}", c, f"action {c}", 12 + s, subject=f"s{s}", view=f"{s % 2}")
        for c in range(1, classes + 1)
        for s in range(1, each + 1)
    ]
    manifest = Manifest("tiny", tuple(samples))
    manifest.write(root / "manifests" / "tiny.csv")
    for protocol in (PROTOCOL, SPLITS):
        path = root / "manifests" / "protocols" / f"{protocol['name']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(protocol))
    body = rng.normal(size=(JOINTS, 3))
    directions = rng.normal(size=(classes + 1, JOINTS, 3))
    attributes: dict[str, str | int | float] = {"manifest_sha256": manifest.sha256}
    path = root / "data" / "tiny.h5"
    with SkeletonStoreWriter(path, LAYOUT, JOINTS, attrs=attributes) as writer:
        for sample in samples:
            time = np.linspace(0, 1, sample.frames)[:, None, None]
            noise = 0.15 * rng.normal(size=(sample.frames, JOINTS, 3))
            clip = body + np.sin(2 * np.pi * time) * directions[sample.class_id] + noise
            writer.append(sample.sample_id, Skeleton(clip[None].astype(np.float32)))
    return Manifest.read(root / "manifests" / "tiny.csv"), SkeletonStore(path)


def make_run(root: Path, name: str = "tiny-a", **changes: Any) -> Path:
    """Write a finished run folder with a freshly initialised small encoder."""
    config = TrainConfig(
        inputs=InputConfig(
            dataset="tiny",
            manifest=str(root / "manifests" / "tiny.csv"),
            store=str(root / "data" / "tiny.h5"),
        ),
        protocol=changes.get("protocol", "tiny"),
        split=changes.get("split"),
    )
    inputs = find_inputs(config.inputs, config.protocol, config.split)
    run = Run.create("tiny", path=root / "runs" / name)
    run.write_config(config)
    document = inputs.describe()
    if "teacher" in changes:
        document["cache"] = {"path": "gone.zarr", "teacher": changes["teacher"]}
    write_json(run.path / "inputs.json", document)
    torch.manual_seed(0)
    encoder = build_encoder(changes.get("encoder", "agcn"), LAYOUT, bodies=1, width=0.125)
    metadata = {
        "dataset": "tiny",
        "manifest_sha256": inputs.manifest.sha256,
        "protocol": inputs.protocol.name,
        "split": inputs.protocol.split,
        "base": list(inputs.protocol.base),
        "novel": list(inputs.protocol.novel),
        "pipeline": Pipeline(length=16).to_dict(),
        "teacher": changes.get("teacher"),
    }
    save_encoder(run.encoder, encoder, {**metadata, **changes.get("metadata", {})})
    return run.path


def enliven(encoder: torch.nn.Module, skeletons: torch.Tensor) -> None:
    """Normalise each layer by what passes through it; as drawn, features are some 1e-27."""
    for norm in encoder.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(norm.weight)
            norm.momentum = 1.0
    with torch.no_grad():
        encoder.train()(skeletons)
    encoder.eval()
