"""Heads against reference numbers, and what holds for every one of them."""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from skelfew.data.episodes import episode_labels
from skelfew.errors import SkelfewError
from skelfew.fewshot import HEADS, build_classifier, build_head
from skelfew.fewshot.dastm import CrossAttention, rank_penalty
from skelfew.fewshot.feat import FEAT, SetAttention
from skelfew.fewshot.head import Head
from skelfew.fewshot.softdtw import alignment, soft_dtw
from skelfew.fewshot.subspace import Subspace
from skelfew.fewshot.trained import bind, save_head

SHAPES = {"pooled": (16,), "frames": (4, 16), "joints": (4, 5, 16), "mirrored": (2, 16)}
SHAPES["parts"] = (3, 16)
SHAPES[build_head("jeanie").reads] = (5, 4, 16)


def outputs(reads: str, *leading: int, seed: int = 0) -> Tensor:
    """Like an encoder's output, not negative."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*leading, *SHAPES[reads], generator=draw, dtype=torch.float64).relu()


def ready(name: str) -> Head:
    """A head with weights as they are drawn."""
    torch.manual_seed(0)
    head, parts = build_head(name, width=16), ["arm", "leg", "head"]
    if head.knows_classes:
        head.know(
            {c: dict(zip(parts, torch.rand(3).tolist(), strict=True)) for c in range(2, 9)}, parts
        )
    return head.double().eval()


@pytest.fixture(scope="module")
def reference(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "heads.json").read_text())


def fill(module: torch.nn.Module) -> torch.nn.Module:
    """Give a module the weights of the golden files, in double precision."""
    with torch.no_grad():
        for key, value in module.double().eval().state_dict().items():
            phase = 2 * math.pi * zlib.crc32(key.encode()) / 2**32
            i = torch.arange(1, value.numel() + 1, dtype=torch.float64)
            s = torch.sin(0.37 * i + phase).view(value.shape)
            if value.ndim >= 2:
                value.copy_(s * 1.2 / math.sqrt(value.numel() / value.shape[0]))
            else:
                value.copy_(1 + 0.1 * s if key.endswith("weight") else 0.1 * s)
    return module


def numbers(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def episode(reference: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The 5-way 5-shot episode of the golden file: supports (1, 25, 16), queries (1, 20, 16)."""
    support, query = (torch.tensor(reference[k], dtype=torch.float64) for k in ("support", "query"))
    return support.flatten(0, 1)[None], query[None]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("shots", [1, 3])
def test_every_head(name: str, shots: int) -> None:
    """Finds clear classes, episode by episode, query by query, and passes gradients to both."""
    ways, head = 4, ready(name)
    shape = SHAPES[head.reads]
    centres = outputs(head.reads, ways, seed=2)
    support = centres.repeat_interleave(shots, 0) + 0.1 * outputs(head.reads, 2, ways * shots)
    query = centres.repeat_interleave(5, 0) + 0.1 * outputs(head.reads, 2, ways * 5, seed=1)
    support.requires_grad_(), query.requires_grad_()
    classes = torch.tensor([[5, 3, 8, 2], [2, 3, 4, 6]])
    logits = head(support, query, ways, classes)
    assert logits.shape == (2, ways * 5, ways) and support.shape[2:] == shape
    assert (logits.argmax(-1) == episode_labels(ways, 5)).double().mean() > (
        0.5 if head.learns else 0.95
    )
    labels = episode_labels(ways, 5).repeat(2)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels)
    penalty = head.penalty(support, query, ways)
    (loss if penalty is None else loss + penalty).backward()
    for side in (support, query):
        assert side.grad is not None and side.grad.isfinite().all() and side.grad.abs().sum() > 0
    alone = head(support[1:], query[1:, 3:5], ways, classes[1:])
    torch.testing.assert_close(alone[0], logits[1, 3:5], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", HEADS)
def test_empty_features_do_not_become_nan(name: str) -> None:
    """Also not in the gradient."""
    head = ready(name)
    zeros = torch.zeros(1, 6, *SHAPES[head.reads], dtype=torch.float64, requires_grad=True)
    head(zeros, zeros[:, :4], 3, torch.tensor([[4, 2, 6]])).sum().backward()
    assert zeros.grad is not None and zeros.grad.isfinite().all()


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    support, query = outputs("pooled", 2, 6), outputs("pooled", 2, 9, seed=1)
    classifier = build_classifier("protonet")
    whole = classifier.scores(support, query, 3).logits
    monkeypatch.setattr("skelfew.fewshot.head._BLOCK_VALUES", 300)
    torch.testing.assert_close(classifier.scores(support, query, 3).logits, whole)


def test_protonet_equals_the_reference(reference: dict[str, Any]) -> None:
    support, query = episode(reference)
    logits = build_head("protonet")(support, query, 5)
    expected = torch.tensor(reference["protonet_sqeuclid"], dtype=torch.float64)
    torch.testing.assert_close(logits[0], expected, rtol=0, atol=1e-8)
    assert torch.equal(logits, build_classifier("prototype").scores(support, query, 5).logits)
    cosines = build_head("protonet", {"metric": "cosine"})(support, query, 5)
    settings = {"rule": "mean_raw", "scale": 1.0}
    same = build_classifier("cosine", settings).scores(support, query, 5).logits
    torch.testing.assert_close(cosines, same, rtol=0, atol=1e-12)


def with_attention(attention: torch.nn.Module, **settings: float) -> FEAT:
    head = FEAT(16, **settings)
    head.attention = attention  # type: ignore[assignment]
    return head


def test_feat_equals_the_reference(reference: dict[str, Any]) -> None:
    support, query = episode(reference)
    attention = fill(SetAttention(16))
    assert {k: list(v.shape) for k, v in attention.state_dict().items()} == reference["feat"][
        "state_keys"
    ]
    prototypes = attention(support.unflatten(1, (5, 5)).mean(dim=2))
    close = {"rtol": 0, "atol": 1e-8}
    torch.testing.assert_close(prototypes[0], numbers(reference["feat"]["proto_out"]), **close)
    logits = with_attention(attention, temperature=64)(support, query, 5)
    torch.testing.assert_close(logits[0], numbers(reference["feat"]["logits_euclid_T64"]), **close)
    by_width = with_attention(attention)(support, query, 5)  # D = 16
    torch.testing.assert_close(by_width, logits * 40, rtol=1e-12, atol=0)


def test_the_auxiliary_loss_of_feat() -> None:
    """Written out sample by sample."""
    support, query = outputs("pooled", 1, 6), outputs("pooled", 1, 9, seed=1)
    attention = fill(SetAttention(16))
    sets = [
        torch.cat([support[0, 2 * c : 2 * c + 2], query[0, 3 * c : 3 * c + 3]]) for c in range(3)
    ]
    centres = [attention(x).mean(dim=0) for x in sets]
    losses = []
    for c, samples in enumerate(sets):
        for x in samples:
            logits = torch.stack([-(x - centre).square().sum() / 64 for centre in centres])
            losses.append(-logits.log_softmax(dim=0)[c])
    penalty = with_attention(attention, balance=0.1, auxiliary_temperature=64).penalty(
        support, query, 3
    )
    torch.testing.assert_close(penalty, 0.1 * torch.stack(losses).mean())
    by_width = with_attention(attention, balance=0.1).penalty(support, query, 3)  # D = 16
    same = with_attention(attention, balance=0.1, auxiliary_temperature=1.6).penalty(
        support, query, 3
    )
    torch.testing.assert_close(by_width, same)


def test_subspace_equals_the_reference_with_two_views(reference: dict[str, Any]) -> None:
    support, query = episode(reference)
    views = support.unflatten(1, (5, 5))[:, :, :2].flatten(0, 1)[None]
    both = torch.stack([query, torch.full_like(query, 9.0)], dim=2)  # a query's image is not used
    head, expected = Subspace(), reference["dsn_conv4_1shot_2views"]
    logits = head(views, both, 5)
    torch.testing.assert_close(logits[0], numbers(expected["logits"]), rtol=0, atol=1e-8)
    penalty = head.penalty(views, both, 5)
    assert penalty is not None and penalty.item() == pytest.approx(0.03 * expected["disc"])


def test_subspace_equals_singular_vectors() -> None:
    """As the references have it, one class at a time; affine (Conv4) and linear (ResNet-12).

    Their golden numbers for 5 exemplars rest on the rounding of exemplars that span less.
    """
    support, query = outputs("pooled", 1, 12, seed=3), outputs("pooled", 1, 7, seed=4)
    affine, linear, bases = [], [], []
    for exemplars in support[0].unflatten(0, (3, 4)):
        centre = exemplars.mean(dim=0)
        bases.append(torch.linalg.svd((exemplars - centre).T, full_matrices=False).U[:, :3])
        rest = (query[0] - centre) - (query[0] - centre) @ bases[-1] @ bases[-1].T
        affine.append(-(rest.square().sum(dim=-1) + 1e-12).sqrt())
        basis = torch.linalg.svd(exemplars.T, full_matrices=False).U[:, :3]
        linear.append(-(query[0] - query[0] @ basis @ basis.T).square().sum(dim=-1) / 16)
    head = Subspace(second="none")
    torch.testing.assert_close(head(support, query, 3)[0], torch.stack(affine, dim=1))
    apart = sum(
        float((bases[i].T @ bases[j]).square().sum()) for i in range(3) for j in range(3) if i != j
    )
    penalty = head.penalty(support, query, 3)
    assert penalty is not None and penalty.item() == pytest.approx(0.03 * apart)
    twice = [torch.stack([x, x], dim=2) for x in (support, query)]
    logits = Subspace(form="linear")(*twice, 3)
    torch.testing.assert_close(logits[0], torch.stack(linear, dim=1))
    with pytest.raises(SkelfewError, match="every class would get the same score"):
        Subspace(form="linear", second="none")


def test_equal_exemplars_span_a_point() -> None:
    support = outputs("pooled", 1, 2).repeat_interleave(3, dim=1).requires_grad_()
    query = outputs("pooled", 1, 4, seed=1)
    head = Subspace(second="none")
    logits = head(support, query, 2)
    distances = torch.cdist(query, support[:, ::3].detach())
    torch.testing.assert_close(logits, -distances, rtol=0, atol=1e-6)
    penalty = head.penalty(support, query, 2)
    assert penalty is not None and penalty.isfinite()


@pytest.mark.parametrize("gamma", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("divergence", [False, True])
def test_soft_dtw_equals_the_reference(golden: Path, gamma: float, divergence: bool) -> None:
    """Values and gradients; the reference computed in single precision."""
    data = json.loads((golden / "dastm.json").read_text())
    expected = data[f"cosine_gamma{gamma}_norm{divergence}"]
    x, y = numbers(data["x"]).requires_grad_(), numbers(data["y"])
    values = alignment(x[:, None], y[:, None], gamma, "cosine", divergence)[:, 0, 0]
    torch.testing.assert_close(values, numbers(expected["value"]), rtol=0, atol=4e-7)
    (gradient,) = torch.autograd.grad(values.sum(), x)
    torch.testing.assert_close(gradient, numbers(expected["grad"]), rtol=0, atol=4e-8)


def test_soft_dtw_equals_tslearn() -> None:
    """All pairs at once against one at a time, with sequences of two lengths."""
    tslearn = pytest.importorskip("tslearn.metrics")
    draw = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(n, 4, generator=draw).double().view(-1, t, 4) for n, t in ((21, 7), (10, 5))
    )
    x.requires_grad_()
    values = alignment(x[None], y[None], 0.5, "euclidean", divergence=False)[0]
    (gradient,) = torch.autograd.grad(values.sum(), x)
    expected = torch.zeros_like(x)
    for i in range(3):
        for j in range(2):
            costs = torch.cdist(x[i], y[j]).square()
            pair = tslearn.SoftDTW(costs.detach(), gamma=0.5, be="pytorch")
            assert values[i, j].item() == pytest.approx(float(pair.compute()))
            expected[i] += torch.autograd.grad(costs, x, pair.grad().double())[0][i]
    torch.testing.assert_close(gradient, expected)


def test_soft_dtw_of_single_frames_and_of_hard_paths() -> None:
    assert soft_dtw(torch.tensor([[[2.5]]]), 0.1).tolist() == [2.5]
    row = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1)
    assert soft_dtw(row, 0.1).item() == pytest.approx(7) == soft_dtw(row.mT.mT.transpose(0, 1), 0.1)
    costs = torch.tensor([[0.0, 9, 9], [9, 9, 0], [9, 9, 0]])[..., None].requires_grad_()
    value = soft_dtw(costs, 1e-3)
    assert value.item() == pytest.approx(9, abs=0.01)
    value.backward()
    assert costs.grad is not None and costs.grad[0, 0] == costs.grad[2, 2] == 1


def test_the_parts_of_dastm_equal_the_reference(golden: Path) -> None:
    data = json.loads((golden / "dastm.json").read_text())
    rank = rank_penalty(numbers(data["rankmax"]["x"])).item()
    assert rank == pytest.approx(data["rankmax"]["value"], abs=1e-8)
    attention, cross = fill(CrossAttention(8)), data["cross_attention"]
    assert {k: list(v.shape) for k, v in attention.state_dict().items()} == cross["state_keys"]
    out = attention(numbers(cross["a"]), numbers(cross["b"]))
    torch.testing.assert_close(out, numbers(cross["out"]), rtol=0, atol=1e-8)


def test_dastm_pair_by_pair() -> None:
    support, query = outputs("joints", 1, 2), outputs("joints", 1, 3, seed=1)
    head = fill(build_head("dastm", ["gamma=0.1"], width=16))
    weights: Any = head.activation
    logits = head(support, query, 2)
    for m in range(3):
        for n in range(2):
            x = weights.of_query(query[0, m], support[0, n]).flatten(1)
            y = weights.of_class(support[0, n], query[0, m]).flatten(1)
            one = alignment(x[None, None], y[None, None], 0.1, divergence=False)
            torch.testing.assert_close(-logits[0, m, n], one[0, 0, 0])


def test_soft_dtw_head_by_prototype() -> None:
    support, query = outputs("frames", 1, 4), outputs("frames", 1, 3, seed=1)
    mean = support.unflatten(1, (2, 2)).mean(dim=2)
    head = build_head("soft-dtw", ["frame=mean", "gamma=0.1"])
    assert (head.reads, build_head("soft-dtw").reads) == ("frames", "joints")
    torch.testing.assert_close(head(support, query, 2), -alignment(query, mean, 0.1))
    nearest = build_head("soft-dtw", ["frame=mean", "gamma=0.1", "prototype=nearest"])
    each = alignment(query, support, 0.1).unflatten(-1, (2, 2))
    torch.testing.assert_close(nearest(support, query, 2), -each.amin(dim=-1))


def test_a_head_is_kept_with_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    new = build_classifier("protonet")
    assert bind(new, path) is new
    trained = build_classifier("protonet", {"metric": "cosine"})
    save_head(path, trained, 16, {"run": "r"})
    assert bind(build_classifier("protonet"), path).settings == {"metric": "cosine"}
    asked = build_classifier("protonet", {"metric": "euclidean"})
    assert bind(asked, path).settings == {"metric": "euclidean"}
    assert bind(build_classifier("cosine"), path) == build_classifier("cosine")


def test_impossible_settings_are_refused() -> None:
    for settings, message in (
        (["metric=manhattan"], "metric is 'manhattan'; expected euclidean, cosine"),
        (["gamma=1"], "head 'protonet' has no setting 'gamma'; its settings are metric"),
    ):
        with pytest.raises(SkelfewError, match=message):
            build_head("protonet", settings)
    with pytest.raises(SkelfewError, match="no head 'svm'; there are cosine, protonet"):
        build_head("svm")
