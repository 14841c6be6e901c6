"""The skeleton as a graph: which joint passes its features to which.

Source: Yan et al., "Spatial Temporal Graph Convolutional Networks", as simplified by 2s-AGCN
and CTR-GCN (spec A.1).
"""

import torch
from torch import Tensor

from skelfew.data.layouts import Layout

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
