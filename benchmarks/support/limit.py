"""The limit of a network: how long its bare products take, of the same shapes, one after the other.

``Products`` watches a pass, forward alone or with its backward, and notes every matrix product,
convolution and attention. ``seconds`` does these again on random tensors, without what lies
between them. The share of the limit is what the bare products take over what the pass takes.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class _Like:
    """A tensor that is made again."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    floating: bool

    def make(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        extent = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        made = torch.zeros(extent, dtype=dtype, device=device)
        return (made.normal_() if self.floating else made).as_strided(self.shape, self.stride)


class Products(TorchDispatchMode):
    """Notes the products of what runs within the block; ``gflop``: two a multiplication and
    addition.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gflop = 0.0
        self._calls: Counter[str] = Counter()
        self._what: dict[str, tuple[Any, Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        counted = {torch.ops.aten.addmm_: torch.ops.aten.addmm}.get(packet, packet)  # in place
        if counted not in flop_registry:
            with self:
                parts = func.decompose(*args, **kwargs)  # within inference_mode nothing else does
            return func(*args, **kwargs) if parts is NotImplemented else parts
        result = func(*args, **kwargs)
        self.gflop += 1e-9 * flop_registry[counted](*args, **kwargs, out_val=result)
        described = tree_map(_described, (args, kwargs))
        key = f"{func} {described}"
        self._calls[key] += 1
        self._what[key] = (func, *described)
        return result

    def seconds(self, dtype: torch.dtype, device: str = "cpu", rounds: int = 3) -> float:
        """Return how long all products take in a precision, each by the best of some rounds."""
        place, total = torch.device(device), 0.0

        def made(value: Any) -> Any:
            return value.make(dtype, place) if isinstance(value, _Like) else value

        for key, (func, *described) in self._what.items():
            args, kwargs = tree_map(made, tuple(described))
            function = partial(func, *args, **kwargs)
            times = [seconds(function, place) for _ in range(rounds + 1)]
            total += self._calls[key] * min(times[1:])
        return total

    def shares(self, taken: dict[str, float], device: str = "cpu") -> dict[str, dict[str, float]]:
        """Return the rate of the bare products, and their share of each pass.

        ``taken`` are seconds of passes, by names that have the precision in them.
        """
        bare = {
            dtype: self.seconds(getattr(torch, dtype), device)
            for dtype in ("float32", "bfloat16")
            if any(dtype in name for name in taken)
        }
        found = {}
        for name, seconds in taken.items():
            own = bare["bfloat16" if "bfloat16" in name else "float32"]
            rate, share = round(self.gflop / own, 1), round(own / seconds, 2)
            found[name] = {"products_gflop_per_s": rate, "share_of_limit": share}
        return found


def _described(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return _Like(tuple(value.shape), value.stride(), value.is_floating_point())


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    """Return how long a function takes with all that it leaves to a graphics card."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
