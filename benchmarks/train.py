"""Samples per second of every strategy, beside a bare forward and backward pass, in one run.

Claim: one loop serves all strategies, and a strategy costs what its passes through the encoder
cost: its time for a sample, over that of the bare pass, is about the number of passes with gradient
plus a third of those without. Batches (crop, resize, views), heads, optimiser and metrics are
included.

CTR-GCN at a quarter of its width, 32 frames, one body, batch 32, one thread, made-up skeletons.

Usage: python benchmarks/train.py [--json] [--rounds N]
"""

import contextlib
import importlib
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from skelfew.config import STAGES as NAMES
from skelfew.config import TEACHER_STAGES, TrainConfig, override
from skelfew.data.bank import SkeletonBank
from skelfew.data.layouts import load_layout
from skelfew.data.pipeline import Pipeline
from skelfew.encoders import build_encoder
from skelfew.encoders.backbone import SkeletonGCN
from skelfew.loop import StageLoop, StopRequest
from skelfew.pretrain import STAGES
from skelfew.pretrain.admission import TrainingData
from skelfew.runs import Run

SAMPLES, CLASSES, FRAMES, BATCH, DIM = 64, 4, 32, 32, 512
ROUNDS = 3
# Passes of a sample through an encoder: with gradient, and without (slow copies).
PASSES = {"skeleton_byol": (2, 2), "aimclr": (2, 1)}


def make_data(teacher: bool) -> TrainingData:
    draw = torch.Generator().manual_seed(0)
    clips = {
        f"s{i}": torch.randn(1, 60, 25, 3, generator=draw).cumsum(dim=1) for i in range(SAMPLES)
    }
    bank = SkeletonBank.from_clips(
        clips, load_layout("kinect-v2"), Pipeline(length=FRAMES), bodies=1
    )
    return TrainingData(
        ids=tuple(clips),
        classes=tuple(range(CLASSES)),
        labels=torch.arange(SAMPLES) % CLASSES,
        bank=bank,
        targets=torch.randn(SAMPLES, 1, DIM, generator=draw) if teacher else None,
        device=torch.device("cpu"),
        performances=torch.arange(SAMPLES) // 2,
    )


def make_encoder() -> SkeletonGCN:
    torch.manual_seed(0)
    return build_encoder("ctrgcn", load_layout("kinect-v2"), bodies=1, width=0.25)


def bare(data: TrainingData) -> float:
    """Samples per second of forward and backward alone."""
    encoder = make_encoder().train()
    x = data.skeletons(torch.arange(BATCH), torch.Generator().manual_seed(0))
    start = time.perf_counter()
    for _ in range(SAMPLES // BATCH):
        encoder.zero_grad(set_to_none=True)
        encoder(x).square().mean().backward()
    return SAMPLES / (time.perf_counter() - start)


def strategy(name: str, data: TrainingData) -> float:
    """Samples per second of one epoch in the loop of skelfew-train."""
    config = override(TrainConfig(), "episodic.ways", CLASSES)
    config = override(config, "stages", name)
    if name == "episodic":
        config = override(config, "episodic.episodes", 2)
        config = override(config, "episodic.queries", SAMPLES // 2 // CLASSES - 1)
    else:
        config = override(config, f"{name}.epochs", 1)
        config = override(config, f"{name}.batch", BATCH)
    module, attribute = STAGES[name].split(":")
    build = getattr(importlib.import_module(module), attribute)
    stage = build(make_encoder(), data, getattr(config, name), 0)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        run = Run(Path(folder))
        StageLoop(run, config, stage, 0, data, None, StopRequest()).run()
        return float(run.rows()[-1]["samples_per_second"])


def main() -> None:
    torch.set_num_threads(1)
    with_teacher, alone = make_data(True), make_data(False)
    rates: dict[str, list[float]] = {"bare": [], **{name: [] for name in NAMES}}
    rounds = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else ROUNDS
    for _ in range(rounds):  # interleaved, so that a busy minute hits all alike
        rates["bare"].append(bare(alone))
        for name in NAMES:
            data = with_teacher if name in TEACHER_STAGES else alone
            rates[name].append(strategy(name, data))
            print(f"{name}: {rates[name][-1]:.1f} samples/s", file=sys.stderr, flush=True)
    rows = []
    for name, values in rates.items():
        ratios = [b / v for b, v in zip(rates["bare"], values, strict=True)]
        trained, slow = PASSES.get(name, (1, 0))
        rows.append(
            {
                "strategy": name,
                "samples_per_second": round(statistics.median(values), 1),
                "cost_in_bare_passes": round(statistics.median(ratios), 2),
                "lowest": round(min(ratios), 2),
                "highest": round(max(ratios), 2),
                "passes_with_gradient": trained,
                "without": slow,
            }
        )
    if "--json" in sys.argv:
        print(json.dumps({"benchmark": "train", "rounds": rounds, "rows": rows}, indent=2))
        return
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
