"""Convolution along time with a quarter of the multiplications, for tensors with frames first.

A tile of 16 frames of output is a cyclic convolution of a few frames more, so the discrete Fourier
transform turns it into products, one for a real frequency and three for a complex one (Gauss): 35
for nine taps instead of 144. A product is one of matrices of channels, the transforms are matrices
of 35 by 24 and 16 by 35, and with the frames first all of it is matrix products without a copy.
The transform being orthogonal, single precision is kept; Winograd's would lose it at this length.

A stride of two splits frames and taps into even and odd ones, whose products add up.
"""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_TILE = 16
# Bodies are transformed in groups, so that what lies between the transforms stays in the cache:
# this many numbers at most.
_GROUP = 2_000_000


@cache
def transforms(taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return B (R, S), G (R, taps) and A (16, R) float64, S = 15 + taps, so that

    A ((G w) * (B x)) = sum_j w_j x_{t+j}, t = 0 ... 15, for x (S,) and w (taps,).
    """
    size = _TILE + taps - 1
    inputs, kernels, outputs = [], [], []
    for frequency in range(size // 2 + 1):
        angle = 2 * math.pi * frequency * torch.arange(size, dtype=torch.float64) / size
        cosine, sine = angle.cos(), -angle.sin()
        if real := frequency == 0 or 2 * frequency == size:
            sine = torch.zeros_like(sine)
        # X = a + ib times the conjugate of W = c + id, by three products:
        # c (a + b), a (d - c), b (c + d), of which the first less the third is the real part and
        # the first plus the second the imaginary one.
        c, d = cosine[:taps], -sine[:taps]
        share = (1 if real else 2) / size
        back, turned = share * cosine[:_TILE], share * sine[:_TILE]
        products = [
            (cosine + sine, c, back + turned),
            (cosine, d - c, turned),
            (sine, c + d, -back),
        ]
        for b, g, a in products[: 1 if real else 3]:
            inputs.append(b)
            kernels.append(g)
            outputs.append(a)
    return torch.stack(inputs), torch.stack(kernels), torch.stack(outputs, dim=1)


def temporal_convolution(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1) -> Tensor:
    """Return what a convolution along time makes of x (T, N, V, C): (T', N, V, C').

    To rounding, ``torch.conv2d`` of x as (N, C, T, V) with as much padding as leaves all frames.
    Weight (C', C, r, 1), r odd and, for a stride of 2, r = 1 modulo 4; T' = T / stride, rounded up.
    """
    return _TemporalConvolution.apply(x, weight, bias, stride)


class _Plan:
    """Layout of the frames and numbers of a convolution."""

    def __init__(self, x: Tensor, weight: Tensor, stride: int):
        self.outputs, self.inputs, taps, _ = weight.shape
        self.frames, self.bodies, self.joints, _ = x.shape
        self.stride, self.taps = stride, -(-taps // stride)
        self.b, self.g, self.a = (m.to(x.dtype) for m in transforms(self.taps))
        self.rank, self.size = self.b.shape
        self.padding = (taps - 1) // 2 // stride
        self.out_frames = -(-self.frames // stride)
        self.tiles = -(-self.out_frames // _TILE)
        one = self.rank * self.tiles * self.joints * max(self.inputs, self.outputs)
        self.group = max(1, min(self.bodies, _GROUP // one))
        # A matrix of weights is read for every group: that has to pay.
        self.group = min(
            self.bodies, max(self.group, -(-self.inputs // (self.tiles * self.joints)))
        )

    def groups(self) -> range:
        return range(0, self.bodies, self.group)

    def columns(self, x: Tensor, first: int) -> Tensor:
        """Return the numbers of a group of bodies (T, columns), a view."""
        each = x.shape[2] * x.shape[3]
        return x.flatten(1)[:, first * each : (first + self.group) * each]

    def space(self, x: Tensor, channels: int) -> Tensor:
        return x.new_empty(self.rank * self.tiles * self.group * self.joints * channels)

    def cut(self, space: Tensor, columns: int) -> Tensor:
        """Return (R, tiles, columns) of ``space``; the last group may be smaller."""
        size = self.rank * self.tiles * columns
        return space[:size].view(self.rank, self.tiles, columns)

    def window(self, tile: int, frames: int) -> tuple[int, int, int]:
        """Return which frames of the input a tile reads, and the place of the first in the tile."""
        start = tile * _TILE - self.padding
        return max(start, 0), min(start + self.size, frames), max(-start, 0)

    def forward_input(self, x: Tensor, out: Tensor) -> None:
        """Transform x (T, columns) to out (R, tiles, columns)."""
        for tile in range(self.tiles):
            low, high, place = self.window(tile, len(x))
            torch.mm(self.b[:, place : place + high - low], x[low:high], out=out[:, tile])

    def backward_input(self, x: Tensor, out: Tensor) -> None:
        """Transform x (R, tiles, columns) to out (T, columns): the transpose of the above."""
        done = 0
        for tile in range(self.tiles):
            low, high, place = self.window(tile, len(out))
            new = max(low, min(done, high))
            if new > low:
                out[low:new].addmm_(self.b[:, place : place + new - low].T, x[:, tile])
            if high > new:
                torch.mm(
                    self.b[:, place + new - low : place + high - low].T,
                    x[:, tile],
                    out=out[new:high],
                )
            done = max(done, high)
        out[done:] = 0

    def output_rows(self, tile: int) -> tuple[slice, Tensor]:
        """Return which frames of the output a tile gives, and its part of A."""
        end = min(self.out_frames, (tile + 1) * _TILE)
        return slice(tile * _TILE, end), self.a[: end - tile * _TILE]

    def kernels(self, weight: Tensor) -> list[Tensor]:
        """Return the transformed weights (R, C, C'), for a stride of 2 of even and odd taps."""
        taps = weight.squeeze(3).permute(2, 1, 0)
        parts = [taps[phase :: self.stride] for phase in range(self.stride)]
        return [
            (self.g[:, : len(p)] @ p.reshape(len(p), -1)).view(self.rank, *p.shape[1:])
            for p in parts
        ]


class _TemporalConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        plan = _Plan(x, weight, stride)
        kernels = plan.kernels(weight)
        y = x.new_empty(plan.out_frames, *x.shape[1:3], plan.outputs)
        hats, products = plan.space(x, plan.inputs), plan.space(x, plan.outputs)
        for first in plan.groups():
            columns, target = plan.columns(x, first), plan.columns(y, first)
            product = plan.cut(products, target.shape[1])
            rows = product.view(plan.rank, -1, plan.outputs)
            for phase, kernel in enumerate(kernels):
                hat = plan.cut(hats, columns.shape[1])
                plan.forward_input(columns[phase::stride], hat)
                hat = hat.view(plan.rank, -1, plan.inputs)
                if phase:
                    rows.baddbmm_(hat, kernel)
                else:
                    torch.bmm(hat, kernel, out=rows)
            rows[0] += plan.size * bias  # the mean over time
            for tile in range(plan.tiles):
                frames, a = plan.output_rows(tile)
                torch.mm(a, product[:, tile], out=target[frames])
        ctx.save_for_backward(x, weight)
        ctx.plan = plan
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan, stride = ctx.plan, ctx.plan.stride
        x, weight = ctx.saved_tensors
        kernels = [kernel.transpose(1, 2) for kernel in plan.kernels(weight)]
        gradient = gradient.contiguous()
        to_x, to_bias = torch.empty_like(x), x.new_zeros(plan.outputs)
        to_kernels = [x.new_zeros(plan.rank, plan.inputs, plan.outputs) for _ in kernels]
        hats, products = plan.space(x, plan.inputs), plan.space(x, plan.outputs)
        for first in plan.groups():
            columns, target = plan.columns(x, first), plan.columns(to_x, first)
            source = plan.columns(gradient, first)
            product = plan.cut(products, source.shape[1])
            for tile in range(plan.tiles):
                frames, a = plan.output_rows(tile)
                torch.mm(a.T, source[frames], out=product[:, tile])
            rows = product.view(plan.rank, -1, plan.outputs)
            to_bias += plan.size * rows[0].sum(dim=0)
            for phase, (kernel, to_kernel) in enumerate(zip(kernels, to_kernels, strict=True)):
                hat = plan.cut(hats, columns.shape[1])
                hats_rows = hat.view(plan.rank, -1, plan.inputs)
                if ctx.needs_input_grad[1]:
                    plan.forward_input(columns[phase::stride], hat)
                    to_kernel.baddbmm_(hats_rows.transpose(1, 2), rows)
                torch.bmm(rows, kernel, out=hats_rows)
                plan.backward_input(hat, target[phase::stride])
        return to_x, _weight_gradient(plan, to_kernels, weight), to_bias, None


def _weight_gradient(plan: _Plan, to_kernels: list[Tensor], weight: Tensor) -> Tensor:
    """Return the gradient of the weights (C', C, r, 1) from those of their transforms."""
    to_weight = torch.empty_like(weight)
    for phase, to_kernel in enumerate(to_kernels):
        taps = to_weight[:, :, phase :: plan.stride, 0]
        count = taps.shape[2]
        found = plan.g[:, :count].T @ to_kernel.flatten(1)
        taps.copy_(found.view(count, plan.inputs, plan.outputs).permute(2, 1, 0))
    return to_weight
