"""Representation transfer: loss, moving average, width alignment, collapse monitor."""

import math
import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.errors import SkelfewError
from skelfew.training.stages.byol import CrossModalBYOL, Orthonormal, byol_loss
from skelfew.training.stages.collapse import CollapseError, check_collapse, effective_rank, spread

STUDENT, TEACHER = 6, 10


class Flat(nn.Module):
    """The smallest encoder: a linear map of the flattened skeleton."""

    def __init__(self, width: int = STUDENT):
        super().__init__()
        self.layer = nn.Linear(24, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


def model(width_align: str = "pad", student: int = STUDENT, **settings: object) -> CrossModalBYOL:
    torch.manual_seed(0)
    return CrossModalBYOL(
        Flat(student),
        student,
        TEACHER,
        width_align=width_align,
        hidden_dim=32,
        projection_dim=8,
        **settings,  # type: ignore[arg-type]
    )


def batch(n: int = 16) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, 4, 2, 1, generator=draw), torch.randn(n, TEACHER, generator=draw)


def test_loss_is_2_minus_2_cos() -> None:
    a, b = F.normalize(torch.randn(5, 8), dim=-1), F.normalize(torch.randn(5, 8), dim=-1)
    expected = (a - b).square().sum(dim=-1)  # what BYOL calls the loss
    torch.testing.assert_close(byol_loss(a, b), expected)
    torch.testing.assert_close(byol_loss(a, a), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(byol_loss(a, -a), torch.full((5,), 4.0))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, 1.0])
def test_moving_average(decay: float) -> None:
    byol = model(decay=decay)
    with torch.no_grad():
        for p in byol.projector.parameters():
            p.add_(1.0)
    before = [p.clone() for p in byol.target_projector.parameters()]
    byol.update_target()
    for old, target, online in zip(
        before, byol.target_projector.parameters(), byol.projector.parameters(), strict=True
    ):
        torch.testing.assert_close(target, decay * old + (1 - decay) * online)


def test_running_statistics_are_not_averaged() -> None:
    byol = model(decay=0.0)
    byol(*batch())
    own = byol.target_projector[1].running_mean.clone()
    byol.update_target()
    assert torch.equal(byol.target_projector[1].running_mean, own)
    assert not torch.equal(own, byol.projector[1].running_mean)


@pytest.mark.parametrize(
    "width_align", ["pad", "teacher_reduce", "skip_mismatched", "student_adapter"]
)
def test_gradient_reaches_the_encoder_and_not_the_target(width_align: str) -> None:
    byol = model(width_align)
    byol_loss(*byol(*batch())).mean().backward()
    assert byol.encoder.layer.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in byol.target_projector.parameters())


@pytest.mark.parametrize(
    ("width_align", "input_width", "followers"),
    [
        ("pad", TEACHER, 6),
        ("teacher_reduce", STUDENT, 6),
        ("student_adapter", TEACHER, 6),
        ("skip_mismatched", TEACHER, 5),
    ],
)
def test_what_the_moving_average_covers(width_align: str, input_width: int, followers: int) -> None:
    byol = model(width_align, decay=0.0)
    assert byol.target_projector[0].in_features == input_width
    with torch.no_grad():
        for p in byol.projector.parameters():
            p.mul_(3.0).add_(0.5)
    byol.update_target()
    pairs = zip(byol.target_projector.parameters(), byol.projector.parameters(), strict=True)
    equal = [t.shape == o.shape and torch.equal(t, o) for t, o in pairs]
    assert sum(equal) == followers


def test_padding_a_wide_student_pads_the_targets() -> None:
    byol = model("pad", student=14)
    prediction, projection = byol(*batch())
    assert prediction.shape == projection.shape == (16, 8)
    assert byol.target_projector[0].in_features == 14


def test_equal_widths_need_no_alignment() -> None:
    for how in ("pad", "encoder_512", "skip_mismatched"):
        byol = model(how, student=TEACHER)
        assert isinstance(byol.align, nn.Identity)
        pairs = zip(byol.target_projector.parameters(), byol.projector.parameters(), strict=True)
        assert all(torch.equal(target, online) for target, online in pairs)


def test_impossible_alignments_are_refused() -> None:
    with pytest.raises(SkelfewError, match="their widths are 6 and 10"):
        model("encoder_512")
    with pytest.raises(SkelfewError, match="use pad"):
        model("teacher_reduce", student=14)


def test_orthonormal_map_keeps_angles_within_its_range() -> None:
    torch.manual_seed(3)
    reduce = Orthonormal(10, 6)
    torch.testing.assert_close(reduce.matrix.T @ reduce.matrix, torch.eye(6), atol=1e-6, rtol=0)
    assert "matrix" in reduce.state_dict()


def test_no_predictor() -> None:
    byol = model(predictor=False)
    assert not list(byol.predictor.parameters())
    assert byol(*batch())[0].shape == (16, 8)


def test_learns_to_predict_the_teacher() -> None:
    byol = model()
    optimizer = torch.optim.AdamW(byol.parameters(), lr=1e-2)
    skeletons, targets = batch(64)
    losses = []
    for _ in range(60):
        loss = byol_loss(*byol(skeletons, targets)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        byol.update_target()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.4 * losses[0]


def test_spread_of_unit_vectors() -> None:
    draw = torch.Generator().manual_seed(0)
    everywhere = F.normalize(torch.randn(4000, 64, generator=draw), dim=-1)
    assert float(spread(everywhere)) == pytest.approx(1 / math.sqrt(64), rel=0.02)
    assert float(spread(everywhere[:1].expand(50, -1))) == pytest.approx(0, abs=1e-7)


def test_effective_rank() -> None:
    draw = torch.Generator().manual_seed(0)
    assert effective_rank(torch.randn(20000, 8, generator=draw)) == pytest.approx(8, rel=0.01)
    line = torch.randn(100, 1, generator=draw) * torch.ones(1, 8)
    assert effective_rank(line) == pytest.approx(1, rel=1e-6)
    assert effective_rank(torch.ones(10, 8)) == 0.0


def test_collapse_is_called_by_its_name() -> None:
    check_collapse(0.011, 0.1, 0.1, 3)
    check_collapse(0.0, 0.1, 0.0, 3)
    with pytest.raises(CollapseError, match=r"epoch 3.*0\.1000 to 0\.009.*--preset recommended"):
        check_collapse(0.009, 0.1, 0.1, 3)


TOY = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "collapse.py"))


@pytest.mark.parametrize(
    ("name", "bias", "seed", "collapses"),
    [("paper", True, 0, True), ("paper", False, 3, True), ("recommended", True, 0, False)],
)
def test_monitor_tells_the_printed_optimiser_from_the_recommended(
    name: str, bias: bool, seed: int, collapses: bool
) -> None:
    """Adam 0.1 with coupled decay 0.01 collapses on an easy toy of eight classes."""
    assert (TOY["collapsed_at"](name, bias, seed, 1100) is not None) == collapses
