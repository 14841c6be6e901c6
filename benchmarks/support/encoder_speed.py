"""Samples per second of training passes beside the textbook and the limit, in one run."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from support.limit import Products
from support.textbook import Textbook
from torch import Tensor, nn

from skelfew.data.joints.layouts import load_layout
from skelfew.encoders import build_encoder

CLIPS, FRAMES = 8, 64
# What is measured: (name, body pool, only one body there, bfloat16, goal).
CASES = (
    ("two bodies, float32", "mean", False, False, 2.0),
    ("two bodies, bfloat16", "mean", False, True, 2.0),
    ("one body, the absent one not computed, float32", "masked_mean", True, False, 4.0),
    ("one body, the absent one not computed, bfloat16", "masked_mean", True, True, 4.0),
)


def passing(encoder: nn.Module, x: Tensor, bfloat16: bool) -> Callable[[], tuple[float, float]]:
    """Return a function that goes through ``encoder`` and back; it returns wall and processor s."""

    def step() -> tuple[float, float]:
        encoder.zero_grad(set_to_none=True)
        began, used = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            features = encoder(x)
        features.float().square().mean().backward()
        return time.perf_counter() - began, time.process_time() - used

    return step


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """Return a row for the textbook and one for each of ``CASES``.

    Ratios are taken within a round; the processor's time suffers less from what else runs.
    """
    layout = load_layout("kinect-v2")
    draw = torch.Generator().manual_seed(0)
    two = torch.randn(CLIPS, 3, FRAMES, len(layout), 2, generator=draw).cumsum(dim=2)
    one = two.clone()
    one[..., 1] = 0
    torch.manual_seed(0)
    plain = Textbook(name, layout)
    steps = [passing(plain.train(), two, False)]
    differences = [0.0]
    for _, pool, single, bfloat16, _ in CASES:
        encoder = build_encoder(name, layout, body_pool=pool)
        encoder.load_state_dict(plain.state_dict())
        x = one if single else two
        differences.append(difference(plain, encoder, x, single, bfloat16))
        steps.append(passing(encoder.train(), x, bfloat16))
    products = []
    for step in steps:
        with Products() as noted:
            step()
        products.append(noted)
    times = [[step() for step in steps] for _ in range(rounds)]
    wall, processor = ([[t[i] for t in turn] for turn in times] for i in (0, 1))
    rows: list[dict[str, Any]] = []
    names = [("textbook, all bodies, float32", None), *((c[0], c[4]) for c in CASES)]
    for i, (case, goal) in enumerate(names):
        ratios = [turn[0] / turn[i] for turn in wall]
        row = {
            "encoder": name,
            "case": case,
            "samples_per_second": round(CLIPS / statistics.median(t[i] for t in wall), 2),
            "times_faster": round(statistics.median(ratios), 2),
            "lowest": round(min(ratios), 2),
            "highest": round(max(ratios), 2),
            "by_processor_time": round(statistics.median(t[0] / t[i] for t in processor), 2),
            "largest_difference": float(f"{differences[i]:.1e}"),
        }
        row |= products[i].shares({case: statistics.median(t[i] for t in wall)})[case]
        rows.append(row | ({} if goal is None else judged(row["times_faster"], goal)))
    return rows


def judged(found: float, goal: float, least: bool = True) -> dict[str, Any]:
    """Return the goal of a number and whether it is met."""
    met = found >= goal if least else found <= goal
    return {"goal": goal, "goal_is": "met" if met else "missed"}


@torch.no_grad()
def difference(
    plain: Textbook, encoder: nn.Module, x: Tensor, single: bool, bfloat16: bool
) -> float:
    """Return the largest difference of features from the textbook's, over their largest.

    In inference mode, where bodies do not meet in BatchNorm; of clips with one body, the feature
    of that body alone is compared.
    """
    plain.eval()
    maps: list[Tensor] = []
    handle = plain.get_submodule("l10").register_forward_hook(
        lambda module, inputs, output: maps.append(output)
    )
    expected = plain(x)
    handle.remove()
    if single:
        expected = maps[0].mean(dim=(2, 3)).unflatten(0, (len(x), -1))[:, 0]
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        found = encoder.eval()(x).float()
    plain.train()
    return float((found - expected).abs().max() / expected.abs().max())
