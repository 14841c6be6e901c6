"""SMAM (Li et al., 2023), re-implemented from its description: self and mutual attention of maps.

No public code was found and the paper's text was not at hand, so this is what its abstract and
the comparisons with it say: each position (frame and joint) of a clip's map is weighted by how much
it differs from the rest of its clip and by how well it is found again in the other clip.
UNVERIFIED; matching inside the set of queries is left out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.fewshot.head import Head
from skelfew.fewshot.tuning import EPS, class_means
from skelfew.fields import Positive, Share


class SMAM(Head):
    """Cosine of two clips, each the sum of its positions weighted for this pair.

    ``mutual`` weighs the mutual against the self attention, 0 to 1; ``sharpness`` is the factor on
    cosines before the softmax of the mutual one.
    """

    reads = "joints"
    learns = True
    cosines = True

    def __init__(self, width: int, *, mutual: Share = 0.5, sharpness: Positive = 10.0):
        super().__init__()
        self.mutual, self.sharpness = mutual, sharpness
        self.attention = nn.Linear(width, 1)  # a 1x1 convolution

    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return the cosines, (E, M, N)."""
        rows, query = class_means(support, ways).flatten(2, 3), query.flatten(2, 3)  # (E, N, P, D)
        own_rows, own_query = (self.attention(x).squeeze(-1).softmax(dim=-1) for x in (rows, query))
        parts = [F.normalize(x, dim=-1, eps=EPS) for x in (query, rows)]
        found = [torch.stack(x) for x in zip(*map(self._found, *parts), strict=True)]
        in_rows = (self.sharpness * found[0]).softmax(dim=-1)  # (E, M, N, P)
        in_query = (self.sharpness * found[1]).softmax(dim=-1)  # (E, M, N, P')
        of_query = (1 - self.mutual) * own_query.unsqueeze(2) + self.mutual * in_rows
        of_rows = (1 - self.mutual) * own_rows.unsqueeze(1) + self.mutual * in_query
        one = of_query @ query  # (E, M, N, D)
        other = (of_rows.transpose(1, 2) @ rows).transpose(1, 2)
        return F.cosine_similarity(one, other, dim=-1, eps=EPS)

    @staticmethod
    def _found(query: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return how well each position is found again, of queries and classes, both (M, N, P)."""
        flat, best = rows.flatten(0, 1), []
        spare = None if torch.is_grad_enabled() else flat.new_empty(len(flat), query.shape[1])
        for one in query:
            products = torch.mm(flat, one.T, out=spare).view(len(rows), -1, query.shape[1])
            best.append((products.amax(dim=1), products.amax(dim=2)))
        of_query, of_rows = (torch.stack(x) for x in zip(*best, strict=True))
        return of_query, of_rows
