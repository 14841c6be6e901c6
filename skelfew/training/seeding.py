"""Randomness that depends on names, not on history: what ``--resume`` rests on."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a seed (63 bits) for what ``names`` say, e.g. ``derive_seed(0, "transfer", 3)``."""
    text = json.dumps([seed, *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a processor-side generator that nothing else shares."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))


@contextmanager
def seeded(seed: int, *names: str | int, device: torch.device | None = None) -> Iterator[None]:
    """Seed PyTorch's global generator within the block, e.g. to initialise a module.

    Seed and names are as in ``derive_seed``; ``device`` is a GPU whose generator is seeded too.
    """
    gpu = device is not None and device.type == "cuda"
    number = derive_seed(seed, *names)
    with torch.random.fork_rng(devices=[device] if gpu else []):
        torch.random.default_generator.manual_seed(number)
        if gpu:
            torch.cuda.manual_seed(number)
        yield
