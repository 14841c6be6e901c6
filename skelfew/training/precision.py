"""Whether a precision and a number of threads fit the machine, by a short measurement."""

import math
import os
import time

import torch
import torch.nn.functional as F
from torch import nn

_SHAPES, _CLIPS, _FRAMES, _JOINTS, _ROUNDS = 2, 1, 32, 25, 2
_WORTH = 1.1  # of a difference below that nothing is noted


def layer_seconds(module: nn.Module, device: str, mixed: bool) -> float:
    """Return the seconds of a network's largest layers, forward and backward."""
    shapes = {tuple(p.shape) for p in module.parameters() if p.ndim in (2, 4)}
    total = 0.0
    for shape in sorted(shapes, key=math.prod, reverse=True)[:_SHAPES]:
        weight = torch.full(shape, 0.01, device=device, requires_grad=True)
        places = (_FRAMES, _JOINTS)
        size = (_CLIPS, shape[1], *places) if len(shape) == 4 else (_CLIPS, *places, shape[1])
        x = torch.ones(size, device=device, requires_grad=True)
        taken = []
        for _ in range(1 + _ROUNDS):  # the first one warms up
            began = time.perf_counter()
            with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=mixed):
                out = F.conv2d(x, weight) if len(shape) == 4 else F.linear(x, weight)
            out.float().sum().backward()
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
            taken.append(time.perf_counter() - began)
        total += min(taken[1:])
    return total


def fit_notes(module: nn.Module, precision: str, device: str, threads: int) -> list[str]:
    """Return notes on what of the settings makes training slower on this machine."""
    notes = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cores and threads > cores and device == "cpu":
        notes.append(
            f"{threads} threads on {cores} cores wait for each other; --threads {cores} fits"
        )
    if precision == "bfloat16":
        slow, exact = (layer_seconds(module, device, mixed) for mixed in (True, False))
        if slow > _WORTH * exact:
            notes.append(
                f"bfloat16 takes {slow / exact:.1f} times as long as float32 on this machine "
                "(the encoder's largest layers); --precision float32 is faster"
            )
    return notes
