"""Fuzz targets: the heads and bridges that a run keeps beside its encoder."""

import tempfile
from functools import cache
from pathlib import Path

import torch
from edits import Files, hostile
from engine import Target
from torch import nn

from skelfew.fewshot import HEADS, HeadClassifier, build_classifier
from skelfew.fewshot.trained import bind, head_name, save_head
from skelfew.pretrain.bridge import Bridge, load_bridge, save_bridge

_LEARNING = ("feat", "dastm", "smam")


@cache
def heads() -> list[Files]:
    found: list[Files] = []
    for name in _LEARNING:
        classifier = build_classifier(name)
        assert isinstance(classifier, HeadClassifier)
        trained = HeadClassifier(classifier.head, learned=classifier.head.module(16))
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "h.safetensors"
            save_head(path, name, trained, 16, {"run": "r"})
            found.append({"h.safetensors": path.read_bytes()})
    return found


def use_head(folder: Path, out: Path) -> None:
    path = folder / "h.safetensors"
    name = head_name(path)
    if name in HEADS:
        bind(build_classifier(name), path)


@cache
def bridges() -> list[Files]:
    skeleton = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    teacher = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4))
    about = {"teacher": {"name": "t"}, "width": 8, "representation": "f_t", "target_form": "raw"}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "b.safetensors"
        save_bridge(path, Bridge(skeleton, teacher, torch.zeros(8), about))
        return [{"b.safetensors": path.read_bytes()}]


def use_bridge(folder: Path, out: Path) -> None:
    load_bridge(folder / "b.safetensors")


TARGETS = [
    Target("head", hostile(heads), use_head, heads),
    Target("bridge", hostile(bridges), use_bridge, bridges),
]
