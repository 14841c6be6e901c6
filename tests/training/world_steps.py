"""Run by torchrun: steps of training in float64 by all processes against the same by one alone."""

import copy
import json
import sys

import torch
from torch import nn

from skelfew.encoders import build_encoder
from skelfew.training.distributed import World, joined, share, sum_gradients

BATCH, STEPS, RATE = 7, 6, 0.1


def steps(model: nn.ModuleDict, world: World, data: torch.Tensor) -> list[float]:
    """Train with the rate at which traditional training runs; return the losses."""
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, nesterov=True)
    labels, losses = torch.arange(BATCH) % 3, []
    model.train()
    for clips in data:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model["head"](model["encoder"](clips)), labels)
        loss.backward()
        sum_gradients(model, model["encoder"], world)
        optimizer.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    data = torch.randn(STEPS, BATCH, 3, 8, 15, 2, dtype=torch.float64)
    with joined() as world:
        for name in sys.argv[1:]:
            torch.manual_seed(0)  # after it all processes have the same numbers
            encoder = build_encoder(name, "joints-15", width=0.125, bodies=2)
            head = nn.Linear(encoder.feature_dim, 3)
            one = nn.ModuleDict({"encoder": encoder, "head": head}).double()
            many, data = copy.deepcopy(one), torch.randn_like(data)
            expected = steps(one, World(), data)
            share(many["encoder"], world)
            found = steps(many, world, data)
            pairs = zip(one.state_dict().values(), many.state_dict().values(), strict=True)
            apart = max(float((a - b).abs().max()) for a, b in pairs)
            if world.is_main_process:
                print(json.dumps({"one": expected, "many": found, "weights": apart}))


if __name__ == "__main__":
    main()
