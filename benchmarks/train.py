"""Training: passes of AGCN and CTR-GCN beside a textbook of their equations, and whole steps.

Claims. Forward and backward at full size (64 frames, 25 joints, two bodies) take half the time of
a plain implementation of the same equations with equal outputs (support/textbook.py), and a quarter
on clips with one body, because the absent one is not computed; what that changes is what
`body_pool` says: the mean is over bodies that are there, and so are BatchNorm's statistics. The
spread is that of ratios within a round; `largest_difference` is relative, in inference mode.

A step of transfer from the cache is many times faster than the same step with videos decoded and
watched by the teacher in it. Waiting for batches is below 5 % of a step, looking up targets below
1 %, for a small network, whose steps are short.

One loop serves all strategies, and a strategy costs what its passes through the encoder cost: its
time for a sample, over that of the bare pass, is about the number of passes with gradient plus a
third of those without. Batches (crop, resize, views), heads, optimiser and metrics are included.
CTR-GCN at a quarter of its width, 32 frames, one body, batch 32, made-up skeletons.

One thread throughout.

Usage: python benchmarks/train.py [--rounds 3] [--only PART ...] [--json]
    PART is encoders, online, loader or strategies.
"""

import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from support import encoder_speed, online
from support.encoder_speed import judged
from support.rows import options, report

from skelfew.config import TrainConfig, learns_from_teacher, override
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.layouts import load_layout
from skelfew.encoders import build_encoder
from skelfew.encoders.backbone import SkeletonGCN
from skelfew.runs.folder import Run
from skelfew.training.data import TrainingData
from skelfew.training.loop import StageLoop, StopRequest
from skelfew.training.stages import STAGES

SAMPLES, CLASSES, FRAMES, BATCH, DIM = 64, 4, 32, 32, 512
PARTS = ("encoders", "online", "loader", "strategies")
# Passes of a sample through an encoder: with gradient, and without (slow copies).
PASSES = {"skeleton_byol": (2, 2), "aimclr": (2, 1)}


def make_data(teacher: bool, samples: int = SAMPLES) -> TrainingData:
    draw = torch.Generator().manual_seed(0)
    clips = {
        f"s{i}": torch.randn(1, 60, 25, 3, generator=draw).cumsum(dim=1) for i in range(samples)
    }
    bank = SkeletonBank.from_clips(
        clips, load_layout("kinect-v2"), Pipeline(length=FRAMES), bodies=1
    )
    return TrainingData(
        ids=tuple(clips),
        classes=tuple(range(CLASSES)),
        labels=torch.arange(samples) % CLASSES,
        bank=bank,
        targets=torch.randn(samples, 1, DIM, generator=draw) if teacher else None,
        device=torch.device("cpu"),
        performances=torch.arange(samples) // 2,
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


def strategy(name: str, data: TrainingData) -> dict[str, float]:
    """Return the row that the loop of skelfew-train writes about one epoch."""
    config = override(TrainConfig(), "episodic.ways", CLASSES)
    config = override(config, "stages", name)
    if name == "episodic":
        config = override(config, "episodic.episodes", 2)
        config = override(config, "episodic.queries", SAMPLES // 2 // CLASSES - 1)
    else:
        config = override(config, f"{name}.epochs", 1)
        config = override(config, f"{name}.batch", BATCH)
    stage = STAGES.load(name)(make_encoder(), data, getattr(config, name), 0)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        run = Run(Path(folder))
        StageLoop(run, stage, 0, StopRequest()).run()
        return dict(run.rows()[-1])


def loader(rounds: int) -> list[dict[str, Any]]:
    """Shares of a step that go into waiting for its batch and into looking up its targets."""
    data = make_data(True, 16 * BATCH)
    rows = [strategy("transfer", data) for _ in range(rounds)]
    steps = [row["seconds"] / row["steps"] for row in rows]
    assert data.targets is not None
    lookups = []
    for i in range(200):
        batch = torch.randperm(len(data), generator=torch.Generator().manual_seed(i))[:BATCH]
        view = torch.zeros(BATCH, dtype=torch.int64)
        began = time.perf_counter()
        data.targets[batch, view]
        lookups.append(time.perf_counter() - began)
    shares = {
        "waiting for batches": [100 * row["waiting_share"] for row in rows],
        "looking up targets": [100 * statistics.median(lookups) / step for step in steps],
    }
    return [
        {
            "of_a_step": name,
            "percent": round(statistics.median(values), 3),
            "lowest": round(min(values), 3),
            "highest": round(max(values), 3),
            "step_ms": round(1e3 * statistics.median(steps), 1),
            **judged(statistics.median(values), goal, least=False),
        }
        for (name, values), goal in zip(shares.items(), (5.0, 1.0), strict=True)
    ]


def strategies(rounds: int) -> list[dict[str, Any]]:
    """Samples per second of every strategy, and what a sample costs in bare passes."""
    with_teacher, alone = make_data(True), make_data(False)
    rates: dict[str, list[float]] = {"bare": [], **{name: [] for name in STAGES}}
    for _ in range(rounds):  # interleaved, so that a busy minute hits all alike
        rates["bare"].append(bare(alone))
        for name in STAGES:
            data = with_teacher if learns_from_teacher(name) else alone
            rates[name].append(float(strategy(name, data)["samples_per_second"]))
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
    return rows


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {}
    load = round(os.getloadavg()[0], 1)
    for part in arguments.only:
        print(f"{part} ...", file=sys.stderr, flush=True)
        if part == "encoders":
            names = ("agcn", "ctrgcn")
            found[part] = [r for n in names for r in encoder_speed.measure(n, arguments.rounds)]
        elif part == "online":
            with tempfile.TemporaryDirectory() as folder:
                found[part] = [online.measure(Path(folder), 4, arguments.rounds)]
        elif part == "loader":
            found[part] = loader(arguments.rounds)
        else:
            found[part] = strategies(arguments.rounds)
    report("train", arguments.json, rounds=arguments.rounds, load=load, threads=1, **found)


if __name__ == "__main__":
    main()
