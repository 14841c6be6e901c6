"""Over how many seeds the transfer of a toy collapses: presets, with and without last biases.

Eight classes of 32 numbers, a perceptron as encoder, projectors of width 64: seconds a seed. A
collapse is a spread of the targets below a tenth of its first value within 3,000 steps.

Usage: python benchmarks/collapse.py [--seeds 7] [--json]
"""

import argparse
import json

import torch
from torch import Tensor, nn

from skelfew.config import preset
from skelfew.training.optim import build_optimizer, parameter_groups, set_learning_rate
from skelfew.training.stages.byol import CrossModalBYOL, byol_loss
from skelfew.training.stages.collapse import CollapseError, check_collapse, spread

STEPS = 3000


class Perceptron(nn.Sequential):
    """An encoder of 32 numbers with one hidden layer."""

    def __init__(self, width: int):
        super().__init__(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, width))


def collapsed_at(name: str, bias: bool, seed: int, steps: int = STEPS) -> int | None:
    """Return the step at which the toy collapses with a preset's optimiser, None if it does not."""
    settings = preset(name).transfer
    torch.manual_seed(seed)
    byol = CrossModalBYOL(
        Perceptron(16), 16, 32, hidden_dim=64, projection_dim=16, output_bias=bias
    )
    parts = [(byol.predictor, settings.predictor_lr), (byol, 1.0)]
    optimizer = build_optimizer(parameter_groups(parts, settings.optimizer), settings.optimizer)
    set_learning_rate(optimizer, settings.optimizer.lr)
    draw = torch.Generator().manual_seed(seed + 1)

    def noisy(rows: Tensor) -> Tensor:
        return rows + 0.1 * torch.randn(rows.shape, generator=draw)

    centres, teacher = torch.randn(8, 32, generator=draw), torch.randn(8, 32, generator=draw)
    first = 0.0
    for step in range(steps):
        y = torch.randint(8, (64,), generator=draw)
        prediction, projection = byol(noisy(centres[y]), noisy(teacher[y]))
        now = float(spread(projection.detach()))
        first = first or now
        try:
            check_collapse(now, first, settings.collapse, step)
        except CollapseError:
            return step
        optimizer.zero_grad()
        byol_loss(prediction, projection).mean().backward()
        optimizer.step()
        byol.update_target()
    return None


def main() -> None:
    """Print a line a preset and kind of last layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in ("paper", "recommended"):
        for bias in (True, False):
            steps = [collapsed_at(name, bias, seed) for seed in range(options.seeds)]
            found = [step for step in steps if step is not None]
            line = {"preset": name, "bias": bias, "collapsed": len(found), "seeds": len(steps),
                    "first": min(found, default=0), "last": max(found, default=0)}  # fmt: skip
            within = f" after {line['first']:,} to {line['last']:,} steps" if found else ""
            print(
                json.dumps(line)
                if options.json
                else f"preset {name}, last layers {'with' if bias else 'without'} bias: "
                f"{len(found)} of {len(steps)} collapse{within}",
                flush=True,
            )


if __name__ == "__main__":
    main()
