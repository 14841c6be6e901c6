"""Heads against reference numbers, and what holds for every one of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from skelfew.config import HEADS as HEAD_NAMES
from skelfew.data.episodes import episode_labels
from skelfew.errors import SkelfewError
from skelfew.fewshot import CLASSIFIERS, HEADS, build_classifier, build_head
from skelfew.fewshot.trained import bind, save_head

SHAPES = {"pooled": (16,), "frames": (4, 16), "joints": (4, 5, 16), "mirrored": (2, 16)}


def outputs(reads: str, *leading: int, seed: int = 0) -> Tensor:
    """Like an encoder's output, not negative."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*leading, *SHAPES[reads], generator=draw, dtype=torch.float64).relu()


def learned(name: str) -> Any:
    torch.manual_seed(0)
    module = HEADS[name].module(16) if HEADS[name].learns else None
    return None if module is None else module.double().eval()


@pytest.fixture(scope="module")
def reference(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "heads.json").read_text())


def episode(reference: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The 5-way 5-shot episode of the golden file: supports (1, 25, 16), queries (1, 20, 16)."""
    support, query = (torch.tensor(reference[k], dtype=torch.float64) for k in ("support", "query"))
    return support.flatten(0, 1)[None], query[None]


def test_names_are_those_of_the_configuration() -> None:
    assert tuple(HEADS) == HEAD_NAMES


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("shots", [1, 3])
def test_every_head(name: str, shots: int) -> None:
    """Finds clear classes, episode by episode, query by query, and passes gradients to both."""
    ways, head, weights = 4, HEADS[name], learned(name)
    shape = SHAPES[head.reads]
    centres = outputs(head.reads, ways, seed=2)
    support = centres.repeat_interleave(shots, 0) + 0.1 * outputs(head.reads, 2, ways * shots)
    query = centres.repeat_interleave(5, 0) + 0.1 * outputs(head.reads, 2, ways * 5, seed=1)
    support.requires_grad_(), query.requires_grad_()
    logits = head.logits(support, query, ways, weights)
    assert logits.shape == (2, ways * 5, ways) and support.shape[2:] == shape
    assert (logits.argmax(-1) == episode_labels(ways, 5)).double().mean() > (
        0.5 if head.learns else 0.95
    )
    labels = episode_labels(ways, 5).repeat(2)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels)
    penalty = head.penalty(support, query, ways, weights)
    (loss if penalty is None else loss + penalty).backward()
    for side in (support, query):
        assert side.grad is not None and side.grad.isfinite().all() and side.grad.abs().sum() > 0
    alone = head.logits(support[1:], query[1:, 3:5], ways, weights)
    torch.testing.assert_close(alone[0], logits[1, 3:5], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", HEADS)
def test_empty_features_do_not_become_nan(name: str) -> None:
    """Also not in the gradient."""
    head, weights = HEADS[name], learned(name)
    zeros = torch.zeros(1, 6, *SHAPES[head.reads], dtype=torch.float64, requires_grad=True)
    head.logits(zeros, zeros[:, :4], 3, weights).sum().backward()
    assert zeros.grad is not None and zeros.grad.isfinite().all()


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    support, query = outputs("pooled", 2, 6), outputs("pooled", 2, 9, seed=1)
    classifier = build_classifier("protonet")
    whole = classifier.scores(support, query, 3).logits
    monkeypatch.setattr("skelfew.fewshot.head._BLOCK_VALUES", 300)
    torch.testing.assert_close(classifier.scores(support, query, 3).logits, whole)


def test_protonet_equals_the_reference(reference: dict[str, Any]) -> None:
    support, query = episode(reference)
    logits = HEADS["protonet"].logits(support, query, 5)
    expected = torch.tensor(reference["protonet_sqeuclid"], dtype=torch.float64)
    torch.testing.assert_close(logits[0], expected, rtol=0, atol=1e-8)
    assert torch.equal(logits, CLASSIFIERS["prototype"].scores(support, query, 5).logits)
    cosines = build_head("protonet", {"metric": "cosine"}).logits(support, query, 5)
    settings = {"rule": "mean_raw", "scale": 1.0}
    same = build_classifier("cosine", settings).scores(support, query, 5).logits
    torch.testing.assert_close(cosines, same, rtol=0, atol=1e-12)


def test_a_head_is_kept_with_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    assert bind(build_classifier("protonet"), path) == build_classifier("protonet")
    trained = build_classifier("protonet", {"metric": "cosine"})
    save_head(path, "protonet", trained, 16, {"run": "r"})
    assert bind(build_classifier("protonet"), path).settings == {"metric": "cosine"}
    asked = build_classifier("protonet", {"metric": "euclidean"})
    assert bind(asked, path).settings == {"metric": "euclidean"}
    assert bind(CLASSIFIERS["cosine"], path) is CLASSIFIERS["cosine"]


def test_impossible_settings_are_refused() -> None:
    for settings, message in (
        (["metric=manhattan"], "metric is 'manhattan'; expected euclidean, cosine"),
        (["gamma=1"], "head 'protonet' has no setting 'gamma'; its settings are metric"),
    ):
        with pytest.raises(SkelfewError, match=message):
            build_head("protonet", settings)
    with pytest.raises(SkelfewError, match="no head 'svm'; there are cosine, protonet"):
        build_head("svm")
