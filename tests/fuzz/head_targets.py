"""Fuzz targets: heads and bridges that a run keeps beside its encoder; reports on a run."""

import json
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
from edits import Files, hostile
from engine import Target
from torch import nn

from skelfew.fewshot import HEADS, build_classifier, build_head
from skelfew.fewshot.head import HeadClassifier
from skelfew.fewshot.trained import bind, head_name, save_head
from skelfew.report.collect import find_runs, read_run
from skelfew.report.page import make_page
from skelfew.report.table import rows_of
from skelfew.training.stages.bridge import Bridge, load_bridge, save_bridge

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from report_world import make_report_world

_LEARNING = ("feat", "dastm", "smam", "apsr")


@cache
def heads() -> list[Files]:
    found: list[Files] = []
    for name in _LEARNING:
        head = build_head(name, width=16)
        head.know({1: {"a": 0.1, "b": 0.2}, 4: {"a": 0.3, "b": -0.1}}, ["a", "b"])
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "h.safetensors"
            save_head(path, HeadClassifier(head, name), 16, {"run": "r"})
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


@cache
def reports() -> list[Files]:
    """What a report reads of a run that was trained and scored, weights and data aside."""
    with tempfile.TemporaryDirectory() as scratch:
        run = make_report_world(Path(scratch))
        found: dict[str, bytes] = {}
        for path in sorted(run.rglob("*")):
            if path.is_file() and path.suffix in (".json", ".jsonl", ".txt"):
                found[str(path.relative_to(run))] = path.read_bytes()
    return [{**found, "encoder.safetensors": b""}]


def use_report(folder: Path, out: Path) -> None:
    facts = [read_run(run) for run in find_runs([folder])]
    json.dumps(rows_of(facts))
    if facts:
        page = make_page(facts)
        assert page.count("<script") == page.count("</script") == 2  # data and the page's own


TARGETS = [
    Target("report", hostile(reports), use_report, reports),
    Target("head", hostile(heads), use_head, heads),
    Target("bridge", hostile(bridges), use_bridge, bridges),
]
