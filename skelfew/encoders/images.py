"""Skeletons as images: a row a joint, as SL-DML and Skeleton-DML make them.

Sources: Memmesheimer, Theisen and Paulus, "SL-DML: Signal Level Deep Metric Learning for
Multimodal One-Shot Action Recognition", ICPR 2020, and Memmesheimer, Haring, Theisen and Paulus,
"Skeleton-DML: Deep Metric Learning for Skeleton-Based One-Shot Action Recognition", WACV 2022.
Their code has no licence; this is written from a description of it.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from skelfew.errors import SkelfewError
from skelfew.fields import Limit

ImageKind = Literal["sl-dml", "skeleton-dml"]
ImageSize = Annotated[int, Limit(least=32, most=2048)]
_COLOURS = 3


class SkeletonImage(nn.Module):
    """Turns skeletons (N, C, T, V, M) into images (N, 3, S, S) in [0, 1].

    Each body that is there takes V rows, one below the other; absent ones (zero throughout) take
    none, so that the others fill the image. Coordinates less their smallest value are divided by
    the largest then, over the whole clip. Fewer than three coordinates leave the last colours
    black.

    - ``sl-dml``: a column a frame; x, y and z are red, green and blue.
    - ``skeleton-dml``: a row is x of all frames, then y, then z, cut into triples of red, green
      and blue, so that the image has three bands of a third of the columns.

    Resizing is bilinear with pixel centres, as ``interpolate(..., align_corners=False)``.

    Args:
        channels: C, 3 at most.
    """

    heights: Tensor

    def __init__(self, kind: ImageKind, size: int, joints: int, bodies: int, channels: int):
        super().__init__()
        if channels > _COLOURS:
            raise SkelfewError(
                f"joints of {channels} values do not fit into an image of {_COLOURS} colours; use "
                "agcn or ctrgcn"
            )
        self.kind, self.size, self.joints, self.bodies = kind, size, joints, bodies
        # How k bodies are stretched over the height, for k = 1 to M.
        heights = torch.zeros(bodies, size, bodies * joints)
        for k in range(bodies):
            heights[k, :, : (k + 1) * joints] = stretching(size, (k + 1) * joints)
        self.register_buffer("heights", heights, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images (N, 3, S, S) of skeletons x (N, C, T, V, M)."""
        pixels, count = self.pixels(x)
        columns = stretching(self.size, pixels.shape[-1]).to(pixels)
        high = self.heights.to(pixels)[count - 1][:, None] @ pixels
        return high @ columns.T

    def pixels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return images before resizing (N, 3, M * V, T), absent bodies last, and the others'
        count.
        """
        n, c, t, v, m = x.shape
        present = (x != 0).any(dim=3).any(dim=2).any(dim=1)
        first = torch.arange(m, device=x.device) == 0
        present = present | (first & ~present.any(dim=1, keepdim=True))
        order = (~present).to(torch.uint8).argsort(dim=1, stable=True)
        x = x.gather(4, order[:, None, None, None].expand(x.shape))
        count = present.sum(dim=1)
        kept = (torch.arange(m, device=x.device) < count[:, None])[:, None, None, None]
        every = (1, 2, 3, 4)
        x = x - x.masked_fill(~kept, torch.inf).amin(dim=every, keepdim=True)
        x = x.masked_fill(~kept, 0)
        largest = x.amax(dim=every, keepdim=True)
        x = x / torch.where(largest > 0, largest, 1)
        x = nn.functional.pad(x.permute(0, 4, 3, 1, 2), (0, 0, 0, _COLOURS - c))  # (N, M, V, 3, T)
        if self.kind == "sl-dml":
            return x.permute(0, 3, 1, 2, 4).flatten(2, 3), count
        triples = x.reshape(n, m * v, t, _COLOURS)
        return triples.permute(0, 3, 1, 2), count


def stretching(size: int, length: int) -> Tensor:
    """Return the matrix (size, length) of linear interpolation from length to size values."""
    place = ((torch.arange(size) + 0.5) * (length / size) - 0.5).clamp(min=0)
    before = place.long().clamp(max=length - 1)
    after = (before + 1).clamp(max=length - 1)
    weight = (place - before)[:, None]
    one = torch.eye(length)
    return one[before] * (1 - weight) + one[after] * weight
