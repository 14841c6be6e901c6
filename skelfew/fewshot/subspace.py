"""Deep Subspace Networks (Simon et al., 2020): distance to what the exemplars of a class span.

One exemplar spans nothing. The reference with the smaller network mirrors the image and takes the
two for exemplars; that with the larger one goes on with an empty subspace, in which every class
gets the same score. Here the second exemplar of a lonely one is its mirror image: left and right
joints change places and x its sign.
"""

from typing import Literal

import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.fewshot.head import Head
from skelfew.fields import NotNegative, Positive

_EPS = 1e-12


class Subspace(Head):
    """Minus the distance of a query to the subspace of each class.

    Args:
        width: D; any.
        form: ``affine``: through the mean of the exemplars, distance (reference with Conv4).
            ``linear``: through the origin, squared distance over D (reference with ResNet-12), to
            the K - 1 leading directions of K exemplars.
        second: ``mirror``: one exemplar is joined by its mirror image. ``none``: it stays alone;
            its affine subspace is a point, so that the distance is the Euclidean one.
        apart: Weight of the term that keeps subspaces of classes apart in training.
    """

    def __init__(
        self,
        width: int = 0,
        *,
        form: Literal["affine", "linear"] = "affine",
        second: Literal["mirror", "none"] = "mirror",
        scale: Positive = 1.0,
        apart: NotNegative = 0.03,
    ):
        super().__init__()
        if form == "linear" and second == "none":
            raise SkelfewError(
                "form=linear needs second=mirror: with one exemplar every class would get the same "
                "score"
            )
        self.form, self.second, self.scale, self.apart = form, second, scale, apart
        self.reads = "mirrored" if second == "mirror" else "pooled"

    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return minus the distances, (E, M, N)."""
        if self.second == "mirror":
            query = query[:, :, 0]
        centre, spans = self._subspaces(support, ways)
        offsets = query.unsqueeze(2) - centre.unsqueeze(1)  # (E, M, N, D)
        by_class = offsets.transpose(1, 2)  # (E, N, M, D)
        if spans.shape[2]:
            products = by_class @ spans.transpose(-1, -2)  # (E, N, M, R)
            by_class = by_class - _solve(spans, products) @ spans
        squares = (by_class * by_class).sum(dim=-1).transpose(1, 2)
        if self.form == "affine":
            return -self.scale * (squares + _EPS).sqrt()
        return -self.scale * squares / query.shape[-1]

    def penalty(self, support: Tensor, query: Tensor, ways: int) -> Tensor | None:
        """Return the weighted sum over pairs of classes of ||P_i^T P_j||^2, P orthonormal bases."""
        _, spans = self._subspaces(support, ways)
        if not self.apart or not spans.shape[2]:
            return None
        # tr(Q_i Q_j) of the projections Q = A^T (A A^T)^-1 A.
        cross = torch.einsum("eird,ejsd->eijrs", spans, spans)
        inverse = _solve(
            spans, torch.eye(spans.shape[2]).to(spans).expand(*spans.shape[:2], -1, -1)
        )
        one = torch.einsum("eirt,eijts->eijrs", inverse, cross)
        other = torch.einsum("ejst,eijrt->eijrs", inverse, cross)
        overlap = (one * other).sum(dim=(3, 4))
        return (
            self.apart * (overlap.sum(dim=(1, 2)) - overlap.diagonal(dim1=1, dim2=2).sum(-1)).mean()
        )

    def _subspaces(self, support: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Return a point (E, N, D) and spanning vectors (E, N, R, D) of each class."""
        support = support.unflatten(1, (ways, -1))
        if self.second == "mirror":
            support = support.squeeze(2) if support.shape[2] == 1 else support[:, :, :, 0]
        if self.form == "affine":
            # K - 1 singular vectors of K centred points span what their differences do.
            return support.mean(dim=2), support[:, :, 1:] - support[:, :, :1]
        leading = torch.linalg.svd(support, full_matrices=False).Vh[:, :, :-1]
        return torch.zeros_like(support[:, :, 0]), leading


def _solve(spans: Tensor, products: Tensor) -> Tensor:
    """Return products (..., M, R) times the inverse of the spans' inner products (..., R, R)."""
    inner = spans @ spans.transpose(-1, -2)
    size = inner.diagonal(dim1=-1, dim2=-2).mean(dim=-1)[..., None, None]
    # Equal exemplars span less than others; the ridge lets the rest be.
    ridge = 10 * torch.finfo(inner.dtype).eps * size + _EPS
    inner = inner + ridge * torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)
    return torch.linalg.solve(inner, products, left=False)
