"""The skeleton as a graph: which joint passes its features to which.

Source: Yan et al., "Spatial Temporal Graph Convolutional Networks", as simplified by 2s-AGCN
and CTR-GCN (graph/tools.py).
"""

import torch
from torch import Tensor

from skelfew.data.joints.layouts import Layout

SUBSETS = 3


def adjacency(layout: Layout) -> Tensor:
    """Return the subsets identity, inward and outward (3, V, V) float32.

    A bone (child, parent) is the entry [parent, child] of the inward subset and [child, parent]
    of the outward one. Columns are divided by their sums; columns without a bone stay zero.
    """
    size = len(layout)
    subsets = torch.zeros(SUBSETS, size, size)
    subsets[0] = torch.eye(size)
    for child, parent in layout.bones:
        subsets[1, parent, child] = 1
        subsets[2, child, parent] = 1
    return subsets / subsets.sum(dim=1, keepdim=True).clamp(min=1)


def partition(layout: Layout) -> Tensor:
    """Return ST-GCN's spatial partition (3, V, V) float32 (Yan et al., AAAI 2018).

    A link is a joint with itself or a bone in either direction; the matrix of all links, its
    columns divided by their sums, is shared out: a joint with itself; bones that lead to the centre
    or do not touch its neighbourhood; bones that lead away from the centre.

    The reference measures the distance to the centre in at most one step, so that all joints that
    are no neighbours of the centre are equally far away; this is followed.
    """
    size = len(layout)
    links = torch.eye(size)
    for child, parent in layout.bones:
        links[parent, child] = links[child, parent] = 1
    distance = torch.full((size,), torch.inf)
    distance[links[layout.centre] > 0] = 1
    distance[layout.centre] = 0
    normed = links / links.sum(dim=0, keepdim=True)
    itself = torch.eye(size, dtype=torch.bool)
    away = distance[:, None] < distance[None]
    parts = (itself, ~itself & ~away, away)
    return torch.stack([normed * part for part in parts])
