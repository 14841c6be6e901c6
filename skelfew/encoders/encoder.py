"""Base class of all skeleton encoders."""

from abc import ABC, abstractmethod
from typing import get_args

from torch import Tensor, nn

from skelfew.data.joints.layouts import LAYOUTS, Layout
from skelfew.encoders import BodyPool
from skelfew.errors import SkelfewError
from skelfew.io.files import Document, Values

BODY_POOLS = get_args(BodyPool)


class SkeletonEncoder(nn.Module, ABC):
    """Maps skeletons (N, C, T, V, M) to features (N, D).

    Args:
        body_pool: What becomes of bodies that are absent, see the encoder.
        feature_dim: Width of the last block; None for the usual one.
        further: What else ``config`` holds.

    Attributes:
        config: What ``skelfew.encoders.build_encoder`` needs to build this encoder again.
        base: Channels of the first block, a multiple of 8.
    """

    feature_dim: int  # D; set by the encoder

    def __init__(
        self,
        name: str,
        layout: Layout,
        channels: int,
        bodies: int,
        width: float,
        body_pool: str,
        feature_dim: int | None,
        further: Values | None = None,
    ):
        super().__init__()
        if body_pool not in BODY_POOLS:
            raise SkelfewError(f"body_pool is {body_pool!r}; expected {' or '.join(BODY_POOLS)}")
        if not (1 <= channels <= 64 and 1 <= bodies <= 16 and 0 < width <= 8):
            raise SkelfewError(
                f"cannot build {name} with channels={channels}, bodies={bodies}, width={width}; "
                "channels must be in 1 to 64, bodies in 1 to 16 and width in (0, 8]"
            )
        if feature_dim is not None and (not 8 <= feature_dim <= 8192 or feature_dim % 8):
            raise SkelfewError(
                f"feature_dim is {feature_dim}; it must be a multiple of 8, 8192 at most"
            )
        self.base = max(8, 8 * round(8 * width))
        self.joints, self.channels, self.bodies = len(layout), channels, bodies
        self.layout, self.body_pool = layout, body_pool
        self.config: Document = {
            "name": name,
            "layout": layout.name if LAYOUTS.get(layout.name) == layout else layout.to_dict(),
            "channels": channels,
            "bodies": bodies,
            "width": width,
            "body_pool": body_pool,
            **({} if feature_dim is None else {"feature_dim": feature_dim}),
            **(further or {}),
        }

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, D) of skeletons x (N, C, T, V, M)."""

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Return feature maps of skeletons x (N, C, T, V, M), unpooled, for ``pool``."""

    @abstractmethod
    def pool(self, maps: Tensor, x: Tensor) -> Tensor:
        """Return the features (N, D) of the feature maps of skeletons x."""

    @abstractmethod
    def forward_sequence(self, x: Tensor) -> Tensor:
        """Return features in places (N, T', V', D) of skeletons x, before their mean."""

    def present(self, x: Tensor) -> Tensor | None:
        """Return which bodies of x count (N, M), at least one of a clip; None if all do."""
        if self.body_pool == "mean" or self.bodies == 1:
            return None
        present = (x != 0).any(dim=3).any(dim=2).any(dim=1)
        present[:, 0] |= ~present.any(dim=1)
        return present

    def check(self, x: Tensor) -> None:
        """Raise SkelfewError unless x is (N, C, T, V, M) with the encoder's C, V and M."""
        expected = (self.channels, self.joints, self.bodies)
        if x.ndim != 5 or (x.shape[1], *x.shape[3:]) != expected:
            raise SkelfewError(
                f"skeletons have shape {tuple(x.shape)}, but this encoder was built for "
                f"(N, {expected[0]}, T, {expected[1]}, {expected[2]}): coordinates, frames, "
                "joints, bodies"
            )
