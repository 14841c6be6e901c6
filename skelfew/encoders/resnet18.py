"""ResNet-18 on an image of the skeleton, as in SL-DML, Skeleton-DML and Table IX.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. Parameters have
torchvision's names, so that its weights fit; at full width all but ``fc`` are there.
"""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.joints.layouts import Layout
from skelfew.encoders.backbone import initialise_convolutions
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.encoders.images import ImageKind, ImageSize, SkeletonImage
from skelfew.errors import SkelfewError
from skelfew.fields import Limit
from skelfew.io.files import Document

_MULTIPLES = (1, 2, 4, 8)  # output channels of the four layers as multiples of the first one's
IMAGE_SIZE = 256


def _conv(before: int, after: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """ReLU(two 3x3 convolutions of x + shortcut(x))."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(before, after, 3, stride), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = _conv(after, after, 3, 1), nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(_conv(before, after, 1, stride), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, after, H / stride, W / stride) for x (N, before, H, W)."""
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu_()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu_()


class SkeletonResNet(SkeletonEncoder):
    """An image of the skeleton, ResNet-18 without its classifier, and perhaps an embedding.

    Args:
        channels: C, 3 at most.
        width: Factor on the number of channels (64 in the first layer), rounded to a multiple of
            8 and at least 8; torchvision's weights need 1.
        body_pool: Taken for the sake of the other encoders; absent bodies have no rows in the
            image either way.
        feature_dim: Width of the last layer, a multiple of 8; None for the usual one.
        image: See ``skelfew.encoders.images.SkeletonImage``.
        image_size: Height and width of the image; 256 in both papers, less costs less.
        embedding: Width of a linear layer after pooling, 128 in both papers; None for none.

    Attributes:
        feature_dim: D: ``embedding``, else 512 at full width.
    """

    def __init__(
        self,
        layout: Layout,
        channels: int = 3,
        bodies: int = 2,
        width: float = 1.0,
        body_pool: str = "mean",
        feature_dim: int | None = None,
        *,
        image: ImageKind = "sl-dml",
        image_size: ImageSize = IMAGE_SIZE,
        embedding: Annotated[int, Limit(least=1, most=8192)] | None = None,
    ):
        further: Document = {"image": image, "image_size": image_size}
        if embedding is not None:
            if feature_dim is not None:
                raise SkelfewError(
                    f"a last layer of width {feature_dim} and an embedding of width {embedding} "
                    "contradict each other; choose another width_align or leave out embedding"
                )
            further["embedding"] = embedding
        super().__init__(
            "resnet18", layout, channels, bodies, width, body_pool, feature_dim, further
        )
        self.image = SkeletonImage(image, image_size, self.joints, bodies, channels)
        before = self.base
        self.conv1, self.bn1 = _conv(3, before, 7, 2), nn.BatchNorm2d(before)
        last = feature_dim or _MULTIPLES[-1] * self.base
        for i, multiple in enumerate(_MULTIPLES):
            after = last if i == len(_MULTIPLES) - 1 else multiple * self.base
            blocks = BasicBlock(before, after, 1 if i == 0 else 2), BasicBlock(after, after, 1)
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            before = after
        initialise_convolutions(self)
        self.embedder: nn.Linear | None = None
        if embedding is not None:
            self.embedder = nn.Linear(last, embedding)
        self.feature_dim = embedding or last

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, D) of skeletons x (N, C, T, V, M)."""
        return self._embedded(self._run(x).mean(dim=(2, 3)))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return feature maps (N, 1, width, S / 32, S / 32), columns first, as frames elsewhere."""
        return self._run(x).transpose(2, 3).unsqueeze(1)

    def pool(self, maps: Tensor, x: Tensor) -> Tensor:
        """Return the features (N, D) of feature maps; those of ``forward`` if these are x's."""
        return self._embedded(maps.mean(dim=(3, 4)).squeeze(1))

    def forward_sequence(self, x: Tensor) -> Tensor:
        """Return the features (N, S / 32, S / 32, D) by column (time) and row of the image.

        Raises SkelfewError: the columns of a Skeleton-DML image are not in the order of time.
        """
        if self.image.kind != "sl-dml":
            raise SkelfewError(
                f"the columns of a {self.image.kind} image are not frames in order, so heads that "
                "compare sequences cannot read it; use encoder.image=sl-dml"
            )
        return self._embedded(self._run(x).permute(0, 3, 2, 1))

    def _embedded(self, features: Tensor) -> Tensor:
        return features if self.embedder is None else self.embedder(features)

    def _run(self, x: Tensor) -> Tensor:
        self.check(x)
        y = self.bn1(self.conv1(self.image(x))).relu_()
        y = F.max_pool2d(y, 3, 2, 1)
        for i in range(len(_MULTIPLES)):
            y = self.get_submodule(f"layer{i + 1}")(y)
        return y
