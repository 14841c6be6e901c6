"""Dynamic time warping of many pairs against the recursion, and what the classifier makes of it."""

from functools import cache

import pytest
import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.evaluation.scoring import Features, score_draws
from skelfew.fewshot import build_classifier
from skelfew.fewshot.dtw import DTW, dtw, plain_dtw


def recursion(costs: Tensor, band: int) -> float:
    """The textbook's, for one table (T, S)."""
    values = costs.tolist()

    @cache
    def cell(i: int, j: int) -> float:
        if i < 0 or j < 0 or abs(i - j) > band:
            return float("inf")
        before = 0.0 if i == j == 0 else min(cell(i - 1, j - 1), cell(i - 1, j), cell(i, j - 1))
        return values[i][j] + before

    return cell(len(values) - 1, len(values[0]) - 1)


@pytest.mark.parametrize(
    ("rows", "columns", "band"),
    [(1, 1, 1), (2, 2, 1), (6, 6, 2), (16, 16, 4), (5, 9, 4), (9, 5, 8)],
)
def test_all_pairs_at_once_are_each_pair_by_the_recursion(
    rows: int, columns: int, band: int
) -> None:
    costs = torch.rand(rows, columns, 7, generator=torch.Generator().manual_seed(rows))
    expected = torch.tensor([recursion(c, band) for c in costs.unbind(-1)])
    torch.testing.assert_close(dtw(costs, band), expected)
    torch.testing.assert_close(plain_dtw(costs, band), expected)


def test_a_band_that_ends_before_the_last_cell_is_widened() -> None:
    costs = torch.rand(3, 8, 2)
    torch.testing.assert_close(dtw(costs, 0), dtw(costs, 5))


def test_similarities_of_shifted_clips() -> None:
    draw = torch.Generator().manual_seed(0)
    clip = torch.randn(1, 1, 2, 16, 6, generator=draw)
    later = torch.cat([clip[:, :, :, :1], clip[:, :, :, :-1]], dim=3)
    rule = DTW()
    same, shifted = rule.similarities(torch.cat([3 * clip, later], dim=1), clip)[0, 0].tolist()
    cosine = torch.cosine_similarity(clip.flatten(), later.flatten(), dim=0)
    assert same == pytest.approx(1, abs=1e-6) and shifted > 0.9 > cosine + 0.5
    many = torch.randn(2, 700, 2, 16, 6, generator=draw)
    several = torch.randn(2, 6, 2, 16, 6, generator=draw)
    blocks = rule.similarities(several, many)
    torch.testing.assert_close(blocks[:, 650:660], rule.similarities(several, many[:, 650:660]))
    torch.testing.assert_close(
        blocks[:, :3], rule.similarities(several, many[:, :3], plain=True), rtol=1e-5, atol=1e-5
    )


def test_the_nearest_exemplars_decide() -> None:
    draw = torch.Generator().manual_seed(1)
    support = torch.randn(1, 6, 1, 4, 3, generator=draw)
    query = torch.randn(1, 5, 1, 4, 3, generator=draw)
    alike = DTW().similarities(support, query)[0].view(5, 2, 3)
    for nearest in (1, 2, 3, 9):
        rule = build_classifier("dtw", {"nearest": str(nearest)})
        expected = alike.sort(dim=-1, descending=True).values[..., :nearest].mean(dim=-1)
        torch.testing.assert_close(rule.scores(support, query, 2).logits[0], expected)
    with pytest.raises(SkelfewError, match="band is 2"):
        build_classifier("dtw", {"band": 2.0})


def test_draws_take_the_similarities_of_all_pairs_where_that_is_less_work() -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(30)
    values = torch.randn(3, 2, 6, 4, generator=draw)[labels]
    values = values + 1.5 * torch.randn(90, 2, 6, 4, generator=draw)
    ids = tuple(f"s{i}" for i in range(90))
    rule, few, many = DTW(), Features(values, ids, labels), Features(values, ids, labels)
    rows = torch.arange(90)[None]
    torch.testing.assert_close(
        rule.of_pairs(values), rule.similarities(values[rows], values[rows])[0]
    )
    one = score_draws(few, (0, 1, 2), rule, 1, draws=3, seed=1)
    all_ = score_draws(many, (0, 1, 2), rule, 1, draws=30, seed=1)
    assert few.paired(rule) is None and many.paired(rule) is not None
    assert one.draws == all_.draws[:3] and 0.4 < one.micro.value < 1
