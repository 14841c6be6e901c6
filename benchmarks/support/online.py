"""A step of transfer from the cache, and the same step with decoding and the teacher in it.

The step itself is that of skelfew-train: draw a batch, forward, backward, optimiser. Online, the
targets of its samples are made from their videos: decord, joint crop, X-CLIP of the published size
with random weights in the faster precision, class texts encoded once before.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from skelfew_extract.clips import DecodeSettings
from skelfew_extract.crop import CropSettings
from skelfew_extract.engines.decode_worker import decode_clip
from skelfew_extract.extract import choose_precision
from skelfew_extract.recordings import Recordings
from skelfew_extract.teachers.xclip_teacher import build_xclip
from torch import Tensor

from skelfew.config import TrainConfig
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.encoders import build_encoder
from skelfew.training.data import TrainingData
from skelfew.training.optim import build_optimizer, parameter_groups
from skelfew.training.stages.base import Batch
from skelfew.training.stages.transfer import Transfer

TEACHER = "xclip-base-patch16"


def world(root: Path) -> Recordings:
    """Make a performance of each action of the demo world, with its video."""
    options = ["--option=subjects=1", "--option=views=1", "--option=replications=1"]
    places = ["--raw", str(root / "raw"), "--out", str(root / "m.csv"), "--data"]
    command = str(Path(sys.executable).parent / "skelfew-prepare")
    line = [command, "demo", *places, str(root / "d.h5"), "--workers=1", *options]
    subprocess.run(line, check=True, capture_output=True)
    return Recordings.open(root / "m.csv", root / "d.h5", None)


class Online:
    """Teacher features of samples, from their videos."""

    def __init__(self, recordings: Recordings):
        self.recordings = recordings
        self.precision = choose_precision("auto", "cpu", 768)
        self.teacher = build_xclip(TEACHER, untrained=True, precision=self.precision)
        crop = CropSettings(frames=self.teacher.frames, size=self.teacher.image_size)
        self.settings = DecodeSettings(crop)
        classes = recordings.manifest.classes
        self.numbers = {number: i for i, number in enumerate(classes)}
        self.texts = self.teacher.encode_text(list(classes.values()))

    def targets(self, rows: Tensor, spent: dict[str, float]) -> Tensor:
        """Return f_v + f_t (B, D), each of length one; seconds are added to ``spent``."""
        began = time.perf_counter()
        tasks = [self.recordings.task(i) for i in rows.tolist()]
        pictures = [decode_clip(task, self.settings)[1] for task in tasks]
        clips = torch.stack([torch.from_numpy(p) for p in pictures if p is not None])
        decoded = time.perf_counter()
        samples = self.recordings.manifest.samples
        text = self.texts[[self.numbers[samples[i].class_id] for i in rows.tolist()]]
        f_v, context = self.teacher.encode_clips(clips)
        f_t = self.teacher.condition(text, context)
        spent["decode and crop"] += decoded - began
        spent["teacher"] += time.perf_counter() - decoded
        return (F.normalize(f_v.float(), dim=-1) + F.normalize(f_t.float(), dim=-1)).clone()


def measure(root: Path, clips: int, rounds: int) -> dict[str, Any]:
    """Return seconds of both steps, their ratio and what the online one consists of."""
    recordings = world(root)
    skeletons, ids = recordings.skeletons, recordings.manifest.ids[:32]
    assert skeletons is not None
    online = Online(recordings)
    dim = online.texts.shape[-1]
    bank = SkeletonBank.from_store(skeletons, ids, Pipeline(length=64))
    numbers = torch.arange(len(ids))
    features = torch.randn(len(ids), 1, dim)
    data = TrainingData(
        tuple(ids), tuple(range(len(ids))), numbers, bank, features, torch.device("cpu"), numbers
    )
    torch.manual_seed(0)
    encoder = build_encoder("agcn", skeletons.joint_layout, bodies=bank.bodies)
    stage = Transfer(encoder, data, TrainConfig().transfer, 0)
    stage.module.train()
    optimizer = build_optimizer(
        parameter_groups(stage.learning_rates(), stage.optimizer), stage.optimizer
    )
    spent = {"decode and crop": 0.0, "teacher": 0.0}

    def step(turn: int, with_teacher: bool) -> float:
        began = time.perf_counter()
        rows = numbers[turn * clips % len(ids) :][:clips]
        batch = Batch(rows, data.skeletons(rows, torch.Generator().manual_seed(turn)))
        targets = online.targets(rows, spent) if with_teacher else features[rows, 0]
        loss = stage.forward(Batch(rows, batch.skeletons, targets)).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        stage.after_step()
        return time.perf_counter() - began

    step(0, False)
    times = [(step(i, False), step(i, True)) for i in range(rounds)]
    ratios = [slow / fast for fast, slow in times]
    cached, alone = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "encoder": f"agcn, 64 frames, {bank.bodies} body",
        "teacher": f"{TEACHER}, {online.teacher.frames} frames, {online.precision}",
        "clips_a_step": clips,
        "rounds": rounds,
        "step_from_cache_s": round(cached, 2),
        "step_online_s": round(alone, 2),
        "times_faster_from_cache": round(statistics.median(ratios), 1),
        "lowest": round(min(ratios), 1),
        "highest": round(max(ratios), 1),
        **{f"{name} of it, s": round(s / rounds, 2) for name, s in spent.items()},
    }
