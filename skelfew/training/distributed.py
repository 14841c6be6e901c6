"""Training by several processes, as ``torchrun`` starts them, to the numbers that one would get.

Every process draws the whole batch with the same random numbers, runs the encoder on its slice of
it, and gets the features of the whole batch back, so all that follows the encoder is computed as
one process would. Inside the encoder BatchNorm sees the whole batch; torch's own SyncBatchNorm
would want GPUs. The first process alone writes.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelfew.errors import SkelfewError
from skelfew.training.stages import STAGES


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this is; 0 writes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Add up ``values`` over all processes, in place; return them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, value: bool) -> bool:
        """Return whether ``value`` is true in any process; every process has to call this."""
        return bool(self.sum(torch.tensor(int(value)))) if self.size > 1 else value

    def broadcast(self, value: object) -> Any:
        """Return what the first process has as ``value`` (plain values only)."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held)
        return held[0]

    def barrier(self) -> None:
        """Wait for all processes."""
        self.any(False)

    def mine(self, count: int) -> slice:
        """Return which of ``count`` samples are computed here; even slices."""
        if count < self.size:
            raise SkelfewError(
                f"a batch of {count} samples for {self.size} processes; use a larger --batch, or "
                "fewer processes"
            )
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def device(self, asked: str) -> str:
        """Return the device of this process: of several GPUs each takes its own."""
        if self.size == 1 or not asked.startswith("cuda"):
            return asked
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def current() -> World:
    """Return the world that was ``joined``; one process alone if none was."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined() -> Iterator[World]:
    """Join the other processes if ``torchrun`` started this one, until the block ends."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or not dist.is_available():
        yield World()
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Plain values travel through gloo, GPU tensors through NCCL.
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=timedelta(minutes=30))
    try:
        yield current()
    finally:
        dist.destroy_process_group()


def check_supported(stages: Iterable[str], encoder: nn.Module, head: str, reads: str) -> None:
    """Raise SkelfewError for what several processes would compute to other numbers than one."""
    why = "several processes would not come to the numbers of one; start skelfew-train without"
    for stage in stages:
        if STAGES.load(stage).one_process:
            raise SkelfewError(f"stage {stage} runs in one process only: {why} torchrun")
        if stage == "episodic" and reads != "pooled":
            raise SkelfewError(
                f"head {head} reads the encoder's {reads} output and trains in one process only, "
                "others with torchrun too; start skelfew-train without torchrun, or use "
                "--set episodic.head=cosine"
            )
    if any(isinstance(m, nn.Dropout) and m.p > 0 for m in encoder.modules()):
        raise SkelfewError(f"this encoder has dropout: {why} torchrun, or use --encoder agcn")


def share(encoder: nn.Module, world: World) -> list[Any]:
    """Make ``encoder``, while training, compute a slice of its batch and return all features.

    Its BatchNorm layers are replaced by ``GlobalBatchNorm`` with the same parameters and names.
    Returns the hooks' handles; ``remove()`` undoes the slicing.
    """
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, GlobalBatchNorm):
                setattr(parent, name, GlobalBatchNorm.of(child, world))
    whole: list[int] = []

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not module.training:
            return None
        whole[:] = [len(inputs[0])]
        return (inputs[0][world.mine(len(inputs[0]))],)

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        return _Gather.apply(output, whole[0], world)

    return [encoder.register_forward_pre_hook(before), encoder.register_forward_hook(after)]


def sum_gradients(module: nn.Module, encoder: nn.Module, world: World) -> None:
    """Give all processes the gradient of the whole batch.

    That of the encoder is a sum over slices. All have that of the rest, whose mean keeps the
    processes equal to the last bit on different processors too.
    """
    if world.size == 1:
        return
    shared = {id(p) for p in encoder.parameters()}
    parameters = [p for p in module.parameters() if p.grad is not None]
    own = [p.grad if id(p) in shared or p.grad is None else p.grad / world.size for p in parameters]
    flat = torch.cat([gradient.flatten() for gradient in own if gradient is not None])
    parts = world.sum(flat).split([p.numel() for p in parameters])
    for p, part in zip(parameters, parts, strict=True):
        p.grad = part.view_as(p)


class _Gather(torch.autograd.Function):
    """Slices (n, *F) of all processes to the whole (N, *F), the same in each."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, count: int, world: World) -> Tensor:
        ctx.mine = world.mine(count)
        whole = part.new_zeros(count, *part.shape[1:])
        whole[ctx.mine] = part
        return world.sum(whole)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.mine], None, None


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) over all processes, with their gradient through both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, world: World) -> tuple[Tensor, ...]:
        axes = [0, *range(2, x.ndim)]
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        number = values.new_tensor([values.numel() // values.shape[1]])
        sums = world.sum(torch.cat([values.sum(dim=axes), number]))
        count = sums[-1]
        centred = values - _wide(sums[:-1] / count, x)
        variance = world.sum(centred.square().sum(dim=axes)) / count
        inverse = (variance + eps).rsqrt()
        y = centred * _wide(inverse, x)
        ctx.save_for_backward(y, inverse, count)
        ctx.world, ctx.axes = world, axes
        mean = sums[:-1] / count
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        y, inverse, count = ctx.saved_tensors
        parts = torch.cat([gradient.sum(dim=ctx.axes), (gradient * y).sum(dim=ctx.axes)])
        plain, along = (ctx.world.sum(parts) / count).chunk(2)
        return (gradient - _wide(plain, y) - y * _wide(along, y)) * _wide(inverse, y), None, None


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm of inputs (n, C, *) over the slices of all processes, which may differ in length.

    To rounding what BatchNorm makes of the whole batch: outputs, gradients, running statistics.
    """

    world = World()

    @classmethod
    def of(cls, layer: _BatchNorm, world: World) -> "GlobalBatchNorm":
        """Return a layer with the parameters and buffers of ``layer``, not copies of them."""
        new = cls(layer.num_features, layer.eps, layer.momentum)
        new.weight, new.bias = layer.weight, layer.bias
        new.running_mean, new.running_var = layer.running_mean, layer.running_var
        new.num_batches_tracked = layer.num_batches_tracked
        new.world = world
        new.train(layer.training)
        return new

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input; in evaluation that of the running statistics."""
        if input.ndim < 2:
            raise ValueError(f"expected (n, C, *), got {tuple(input.shape)}")
        if not self.training:
            kept = (self.running_mean, self.running_var, self.weight, self.bias)
            return F.batch_norm(input, *kept, False, 0.0, self.eps)
        y, mean, variance, count = _Normalise.apply(input, self.eps, self.world)
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), self.momentum)
        y = y * _wide(self.weight, y) + _wide(self.bias, y)
        return y.to(input.dtype)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """Return ``values`` (C,) as (1, C, 1, ...) with the axes of ``like``."""
    return values.view(1, -1, *[1] * (like.ndim - 2))
