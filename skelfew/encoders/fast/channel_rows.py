"""Layers for tensors (C, N, V, T), every channel one row in memory: CTR-GCN's on a processor.

There a 1x1 convolution of a few bodies is one matrix product, branches are blocks of rows, and a
graph for every channel is a batch of products with the frames of a joint side by side. Bodies are
taken in groups, so that what lies between two products stays in the cache.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Numbers of the largest tensor that a group makes.
_GROUP = 400_000


def _groups(bodies: int, each: int) -> Iterator[slice]:
    """Return groups of bodies that make ``each`` numbers apiece."""
    size = max(1, _GROUP // each)
    return (slice(i, min(i + size, bodies)) for i in range(0, bodies, size))


def _products_in(dtype: torch.dtype) -> torch.dtype:
    """Return in which precision to multiply numbers of ``dtype``, now."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else dtype


def pointwise_rows(x: Tensor, *convolutions: nn.Module) -> tuple[Tensor, ...]:
    """Return what 1x1 convolutions of one stride make of x (C, N, V, T), each."""
    layers = [cast(nn.Conv2d, convolution) for convolution in convolutions]
    x = x[..., :: layers[0].stride[0]].contiguous()
    dtype = _products_in(x.dtype)
    weight = torch.cat([layer.weight for layer in layers]).flatten(1)
    bias = torch.cat([cast(Tensor, layer.bias) for layer in layers])
    sizes = [layer.out_channels for layer in layers]
    return _Pointwise.apply(x.to(dtype), weight.to(dtype), bias.to(dtype), sizes)


class _Pointwise(torch.autograd.Function):
    """Parts are views of one tensor; their gradients are joined again group by group."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, sizes: list[int]
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, weight)
        y = x.new_empty(len(weight), *x.shape[1:])
        for group in _groups(x.shape[1], x[0, 0].numel() * max(weight.shape)):
            columns = x[:, group].flatten(1)
            torch.addmm(bias[:, None], weight, columns, out=y[:, group].flatten(1))
        return y.split(sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight = torch.empty_like(x), torch.zeros_like(weight)
        to_bias = x.new_zeros(len(weight))
        for group in _groups(x.shape[1], x[0, 0].numel() * max(weight.shape)):
            rows = torch.cat([gradient[:, group] for gradient in gradients]).flatten(1)
            if ctx.needs_input_grad[1]:
                to_weight.addmm_(rows, x[:, group].flatten(1).T)
            if ctx.needs_input_grad[2]:
                to_bias += rows.sum(dim=1)
            torch.mm(weight.T, rows, out=to_x[:, group].flatten(1))
        return to_x, to_weight, to_bias, None


def temporal_rows(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Return what a convolution along time makes of x (C, N, V, T)."""
    y = F.conv2d(
        x.flatten(1, 2)[None],
        convolution.weight.transpose(2, 3),
        convolution.bias,
        convolution.stride[::-1],
        cast(tuple[int, int], convolution.padding)[::-1],
        convolution.dilation[::-1],
    )
    return y.view(-1, *x.shape[1:3], y.shape[3])


def normed_rows(x: Tensor, norm: nn.Module, rectify: bool = False) -> Tensor:
    """Return what a BatchNorm layer, and a ReLU on demand, make of x (C, N, V, T).

    In training as group normalisation of one sample: the same in a fraction of the time.
    """
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    count, eps = x[0].numel(), norm.eps
    if count < 2 or not (type(norm) is nn.BatchNorm2d and norm.training):
        y: Tensor = norm(x.flatten(1, 2)[None])
        return (y.relu_() if rectify else y).view(x.shape)
    y, mean, inverse = torch.native_group_norm(
        x[None], norm.weight, norm.bias, 1, len(x), count, len(x), eps
    )
    with torch.no_grad():
        assert norm.running_mean is not None and norm.running_var is not None
        assert norm.num_batches_tracked is not None and norm.momentum is not None
        variance = (inverse[0].to(norm.running_var).pow(-2) - eps).clamp_(min=0)
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean[0].to(norm.running_mean), norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
    return (y.relu_() if rectify else y).squeeze(0)


def refined_rows(x: Tensor, weight: Tensor, bias: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return y (C', N, V, T) of x (C, N, V, T): the sum over k of what joint u gathers from all v.

    y_cnut = sum_kv (left_k right_k)_cnvu (weight_k x + bias_k)_cnvt, with weight (K, C', C), bias
    (K, C'), left (K, C', R), right (K, R, N, V, V) of joints v and u. No product of a group of
    bodies leaves the cache before it has gone along the edges.
    """
    # What the biases add is alike for all frames.
    sums = torch.bmm(left, right.sum(dim=3).flatten(2))
    offset = (bias[..., None] * sums).sum(dim=0).view(-1, *x.shape[1:3], 1)
    dtype = _products_in(x.dtype)
    tensors = (t.to(dtype) for t in (x, weight, left, right, offset))
    return _Refined.apply(*tensors)


class _Refined(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, left: Tensor, right: Tensor, offset: Tensor
    ) -> Tensor:
        _, n, v, t = x.shape
        k, c, _ = left.shape
        y = x.new_empty(c, n, v, t)
        saved = []
        for group in _groups(n, k * c * v * t):
            sent = torch.mm(weight.flatten(0, 1), x[:, group].flatten(1)).view(k, -1, v, t)
            edges = torch.bmm(left, right[:, :, group].flatten(2)).view(k, -1, v, v)
            total = torch.bmm(edges[0].transpose(1, 2), sent[0])
            for i in range(1, k):
                total.baddbmm_(edges[i].transpose(1, 2), sent[i])
            torch.add(total.view(c, -1, v, t), offset[:, group], out=y[:, group])
            saved += [sent, edges]
        ctx.save_for_backward(x, weight, left, right, *saved)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        x, weight, left, right, *saved = ctx.saved_tensors
        _, n, v, t = x.shape
        k, c, r = left.shape
        to_x, to_weight = torch.empty_like(x), torch.zeros_like(weight)
        # (K, R, C'), the faster way round
        to_left, to_right = left.new_zeros(k, r, c), torch.empty_like(right)
        for i, group in enumerate(_groups(n, k * c * v * t)):
            sent, edges = saved[2 * i : 2 * i + 2]
            arrived = gradient[:, group].reshape(-1, v, t)
            to_sent, to_edges = torch.empty_like(sent), torch.empty_like(edges)
            for j in range(k):
                torch.bmm(edges[j], arrived, out=to_sent[j])
                torch.bmm(sent[j], arrived.transpose(1, 2), out=to_edges[j])
            flat, rows = to_edges.view(k, c, -1), to_sent.view(k * c, -1)
            to_left.baddbmm_(right[:, :, group].flatten(2), flat.transpose(1, 2))
            to_right[:, :, group] = torch.bmm(left.mT, flat).unflatten(2, (-1, v, v))
            if ctx.needs_input_grad[1]:
                to_weight.flatten(0, 1).addmm_(rows, x[:, group].flatten(1).T)
            torch.mm(weight.flatten(0, 1).T, rows, out=to_x[:, group].flatten(1))
        return to_x, to_weight, to_left.mT, to_right, gradient.sum(dim=3, keepdim=True)


def largest_of_three(x: Tensor, stride: int) -> Tensor:
    """Return the largest of a frame and its neighbours, of x (..., T): max-pooling."""
    return _LargestOfThree.apply(x, stride)


class _LargestOfThree(torch.autograd.Function):
    """As by torch's max_pool2d, but in a fraction of its time, the first of equals counts.

    Rows get a frame at both ends, so that windows are three views of all numbers in a line.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        x = F.pad(x, (1, 1), value=-torch.inf)
        y = torch.empty_like(x)
        line, middle = x.view(-1), y.view(-1)[1:-1]
        torch.maximum(line[:-2], line[1:-1], out=middle)
        torch.maximum(middle, line[2:], out=middle)
        ctx.save_for_backward(x, y)
        ctx.stride = stride
        return y[..., 1:-1:stride].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        rest, to_x = torch.zeros_like(x), torch.zeros_like(x)
        rest[..., 1 : -1 : ctx.stride] = gradient
        line, found = x.view(-1), to_x.view(-1)
        middle, rest = y.view(-1)[1:-1], rest.view(-1)[1:-1]
        part = torch.empty_like(rest)
        for i in range(3):
            window = slice(i, len(line) - 2 + i)
            torch.eq(line[window], middle, out=part)
            part *= rest
            found[window] += part
            rest -= part
        return to_x[..., 1:-1], None


def joined_rows(parts: list[Tensor], residual: Tensor | None) -> Tensor:
    """Return ReLU(parts + residual) (C, N, V, T), the parts one after another along C."""
    return _Joined.apply(residual, *parts)


class _Joined(torch.autograd.Function):
    """By autograd the parts would be copied together before the sum, and their gradients after."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor | None, *parts: Tensor) -> Tensor:
        ctx.sizes = [len(part) for part in parts]
        if residual is None:
            y = torch.cat(parts)
        else:
            y = torch.empty_like(residual)
            places = zip(parts, residual.split(ctx.sizes), y.split(ctx.sizes), strict=True)
            for part, other, out in places:
                torch.add(part, other, out=out)
        ctx.save_for_backward(y.relu_())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = torch.ops.aten.threshold_backward(gradient, *ctx.saved_tensors, 0)
        return gradient if ctx.needs_input_grad[0] else None, *gradient.split(ctx.sizes)
