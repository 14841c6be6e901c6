"""Representation transfer from a frozen vision-language teacher to a skeleton encoder.

Source: Lu et al., "Cross-Modal Contrastive Pre-training for Few-Shot Skeleton Action
Recognition", Sec. IV-B. Where encoder and teacher differ in width, Eq. 2 is undefined for the
projectors' first layers; ``width_align`` says how the two are brought together.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.errors import SkelfewError


def byol_mlp(
    in_dim: int, hidden_dim: int = 4096, out_dim: int = 256, output_bias: bool = True
) -> nn.Sequential:
    """Return the projector/predictor MLP of BYOL (Grill et al., 2020).

    The authors' code has no bias in the last layer (``output_bias`` False); docs/paper-notes.md.
    """
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, out_dim, bias=output_bias),
    )


class ZeroPad(nn.Module):
    """Appends zeros to features (N, D) up to ``width``."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, width)."""
        return F.pad(features, (0, self.width - features.shape[-1]))


class Orthonormal(nn.Module):
    """A fixed random projection (N, in_dim) to (N, out_dim) with orthonormal rows."""

    matrix: Tensor

    def __init__(self, in_dim: int, out_dim: int):
        super().__init__()
        basis, _ = torch.linalg.qr(torch.randn(in_dim, out_dim, dtype=torch.float64))
        self.register_buffer("matrix", basis.float())

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, out_dim)."""
        return features @ self.matrix


def _align_widths(name: str, student: int, teacher: int) -> tuple[nn.Module, nn.Module, int, int]:
    """Return what precedes the two projectors and the projectors' input widths."""
    if student == teacher:
        return nn.Identity(), nn.Identity(), student, teacher
    if name == "pad":
        width = max(student, teacher)
        return ZeroPad(width), ZeroPad(width), width, width
    if name == "teacher_reduce":
        if teacher < student:
            raise SkelfewError(
                f"width_align teacher_reduce needs a teacher wider than the encoder, but their "
                f"widths are {teacher} and {student}; use pad"
            )
        return nn.Identity(), Orthonormal(teacher, student), student, student
    if name == "skip_mismatched":
        return nn.Identity(), nn.Identity(), student, teacher
    if name == "student_adapter":
        return nn.Linear(student, teacher), nn.Identity(), teacher, teacher
    raise SkelfewError(
        f"width_align {name} needs an encoder as wide as the teacher, but their widths are "
        f"{student} and {teacher}"
    )


class CrossModalBYOL(nn.Module):
    """Skeleton (online) network that predicts the projection of teacher features (target).

    Args:
        encoder: Maps skeletons (N, C, T, V, M) to features (N, feature_dim).
        decay: Weight of the old target parameters in the moving average (lambda in Eq. 2).
        width_align: ``pad`` the narrower with zeros; ``teacher_reduce`` the targets by a fixed
            orthonormal map; ``skip_mismatched``: leave the target's first layer as it was drawn;
            ``student_adapter``: a learned layer that widens the features; ``encoder_512``: the
            encoder itself was built as wide as the teacher.
        predictor: Whether there is a predictor (Table X).
        output_bias: Whether the last layers of projectors and predictor have a bias.
    """

    def __init__(
        self,
        encoder: nn.Module,
        feature_dim: int,
        teacher_dim: int = 512,
        decay: float = 0.99,
        width_align: str = "pad",
        predictor: bool = True,
        hidden_dim: int = 4096,
        projection_dim: int = 256,
        output_bias: bool = True,
    ):
        super().__init__()
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be in [0, 1], got {decay}")
        self.encoder = encoder
        self.align, self.align_target, online_dim, target_dim = _align_widths(
            width_align, feature_dim, teacher_dim
        )
        self.projector = byol_mlp(online_dim, hidden_dim, projection_dim, output_bias)
        self.predictor: nn.Module = nn.Identity()
        if predictor:
            self.predictor = byol_mlp(projection_dim, hidden_dim, projection_dim, output_bias)
        if online_dim == target_dim:
            self.target_projector = copy.deepcopy(self.projector)
        else:
            self.target_projector = byol_mlp(target_dim, hidden_dim, projection_dim, output_bias)
            for target, online in self._followers():
                target.data.copy_(online)
        self.target_projector.requires_grad_(False)
        self.decay = decay

    def forward(self, skeletons: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised predictions and target projections, (N, projection_dim) each."""
        return self.compare(self.encoder(skeletons), targets)

    def compare(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Do what ``forward`` does with features of the encoder (N, feature_dim)."""
        prediction = self.predictor(self.projector(self.align(features)))
        with torch.no_grad():
            projection = self.target_projector(self.align_target(targets))
        return F.normalize(prediction.float(), dim=-1), F.normalize(projection.float(), dim=-1)

    def bridge(self) -> tuple[nn.Module, nn.Module]:
        """Return what maps encoder features, and what maps targets, to the space of the loss."""
        return (
            nn.Sequential(self.align, self.projector, self.predictor),
            nn.Sequential(self.align_target, self.target_projector),
        )

    @torch.no_grad()
    def update_target(self) -> None:
        """Move the target projector towards the online one (Eq. 2), once per optimizer step."""
        # BatchNorm statistics are left alone: the two projectors see different modalities.
        for target, online in self._followers():
            target.lerp_(online, 1 - self.decay)

    def _followers(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Pairs of target and online parameters; all but the first weight if widths differ."""
        pairs = zip(self.target_projector.parameters(), self.projector.parameters(), strict=True)
        return [(target, online) for target, online in pairs if target.shape == online.shape]


def byol_loss(prediction: Tensor, projection: Tensor) -> Tensor:
    """Return 2 - 2 cos of unit vectors (N, D) for every sample (Eq. 1), (N,) in [0, 4]."""
    return 2 - 2 * (prediction * projection).sum(dim=-1)
