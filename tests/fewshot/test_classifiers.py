"""Classifiers against reference numbers and against a plain torch loop with autograd."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skelfew.data.episodes import episode_labels
from skelfew.errors import SkelfewError
from skelfew.fewshot import POOLED, Classifier, build_classifier
from skelfew.fewshot.cosine import CosineClassifier
from skelfew.fewshot.linear import LinearClassifier


def features(*shape: int, seed: int = 0) -> Tensor:
    """Like an encoder's: not negative and far from the origin, so that cosines are near 1."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.relu(noise + 0.7)


def by_autograd(
    classifier: CosineClassifier | LinearClassifier, support: Tensor, query: Tensor, ways: int
) -> Tensor:
    """One episode fine-tuned with torch.optim.SGD: (M, N) logits."""
    rule = classifier.rule if isinstance(classifier, CosineClassifier) else "mean_raw"
    if rule == "class_mean":
        support = F.normalize(support, dim=-1)
    rows = support if rule == "per_sample" else support.view(ways, -1, support.shape[-1]).mean(1)
    weight = rows.clone().requires_grad_()
    bias = support.new_zeros(ways, requires_grad=True)
    labels = episode_labels(ways, len(support) // ways)

    def logits(x: Tensor) -> Tensor:
        if isinstance(classifier, CosineClassifier):
            units = classifier.scale * F.normalize(x, dim=-1) @ F.normalize(weight, dim=-1).T
        else:
            units = x @ weight.T
        return units.view(len(x), ways, -1).amax(dim=-1) + bias

    optimizer = torch.optim.SGD([weight, bias], classifier.lr, momentum=0.9, weight_decay=1e-4)
    for _ in range(classifier.tune_steps):
        optimizer.zero_grad()
        inside = logits(support if classifier.entropy_on == "support" else query)
        p = inside.softmax(dim=-1)
        entropy = -(p * p.log()).sum(dim=-1).mean()
        (F.cross_entropy(logits(support), labels) + classifier.entropy * entropy).backward()
        optimizer.step()
    return logits(query).detach()


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize(
    "classifier",
    [
        CosineClassifier(scale=1, rule="mean_raw", tune_steps=20, entropy=1),
        CosineClassifier(scale=10, rule="class_mean", tune_steps=20, lr=0.1),
        CosineClassifier(scale=10, rule="per_sample", tune_steps=20, lr=0.1, entropy=0.5),
        CosineClassifier(scale=5, tune_steps=7, lr=0.1, entropy=1, entropy_on="query"),
        CosineClassifier(rule="per_sample", tune_steps=7, lr=0.1, entropy=1, entropy_on="query"),
        LinearClassifier(lr=0.02),
        LinearClassifier(lr=0.02, tune_steps=5, entropy_on="query"),
    ],
    ids=str,
)
def test_fine_tuning_equals_autograd_episode_by_episode(
    classifier: CosineClassifier | LinearClassifier, shots: int
) -> None:
    ways = 4
    support, query = features(3, ways * shots, 16), features(3, 9, 16, seed=1)
    scores = classifier.scores(support, query, ways)
    for i in range(3):
        expected = by_autograd(classifier, support[i], query[i], ways)
        torch.testing.assert_close(scores.logits[i], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [
        ("cosine", {"rule": "mean_raw"}, "meta_baseline_cos10"),
        ("prototype", {}, "protonet_sqeuclid"),
    ],
)
def test_equal_to_the_reference(
    golden: Path, name: str, settings: dict[str, object], key: str
) -> None:
    """Meta-Baseline's cosine head and ProtoNet's squared distances, 5-way 5-shot."""
    data = json.loads((golden / "heads.json").read_text())
    support, query = (torch.tensor(data[k], dtype=torch.float64) for k in ("support", "query"))
    scores = build_classifier(name, settings).scores(support.flatten(0, 1)[None], query[None], 5)
    expected = torch.tensor(data[key], dtype=torch.float64)
    torch.testing.assert_close(scores.logits[0], expected, rtol=0, atol=1e-8)


def test_the_printed_fine_tuning_hardly_changes_a_prediction() -> None:
    """20 steps at lr 5e-4 without a scale do nothing; lr 0.1 with one does."""
    support, query = features(50, 20, 256), features(50, 60, 256, seed=1)
    printed = build_classifier("cosine-paper").scores(support, query, 20)
    assert printed.changed.shape == (50,)
    assert int(printed.changed.sum()) <= 0.001 * 50 * 60
    bold = CosineClassifier(tune_steps=20, lr=1.0, entropy=1.0).scores(support, query, 20)
    before = CosineClassifier().scores(support, query, 20).logits.argmax(-1)
    assert int(bold.changed.sum()) == int((bold.logits.argmax(-1) != before).sum()) > 0


@pytest.mark.parametrize("name", sorted(POOLED))
@pytest.mark.parametrize("shots", [1, 4])
def test_every_classifier(name: str, shots: int) -> None:
    """Finds clear classes; episodes do not influence each other; order of queries is irrelevant."""
    ways, classifier = 5, build_classifier(name)
    centres = 3 * torch.eye(ways, 32, dtype=torch.float64)
    support = centres.repeat_interleave(shots, 0) + 0.1 * features(6, ways * shots, 32)
    query = centres.repeat_interleave(7, 0) + 0.1 * features(6, ways * 7, 32, seed=1)
    scores = classifier.scores(support, query, ways)
    assert scores.logits.shape == (6, ways * 7, ways) and scores.changed.shape == (6,)
    assert (scores.logits.argmax(-1) == episode_labels(ways, 7)).all()
    alone = classifier.scores(support[2:3], query[2:3], ways)
    torch.testing.assert_close(alone.logits[0], scores.logits[2], rtol=0, atol=1e-10)
    turned = classifier.scores(support, query.flip(1), ways)
    torch.testing.assert_close(turned.logits.flip(1), scores.logits, rtol=0, atol=1e-10)


def test_rules_differ_as_they_say() -> None:
    """Two exemplars, one ten times longer: mean_raw follows it, class_mean does not."""
    support = torch.tensor([[[10.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]])
    query = torch.tensor([[[0.0, 1.0, 0.9]]])
    logits = {
        rule: CosineClassifier(scale=1, rule=rule).scores(support, query, 2).logits[0, 0]
        for rule in ("class_mean", "mean_raw", "per_sample")
    }
    length = 1.81**0.5
    assert logits["class_mean"][0].item() == pytest.approx(0.5**0.5 / length)
    assert logits["mean_raw"][0].item() == pytest.approx(1 / 101**0.5 / length)
    assert logits["per_sample"][0].item() == pytest.approx(1 / length)
    assert all(v[1].item() == pytest.approx(0.9 / length) for v in logits.values())


def test_nearest_is_per_sample_and_prototype_is_not() -> None:
    support = torch.tensor([[[0.0, 0], [10, 0], [4, 3], [4, 3]]])
    query = torch.tensor([[[0.0, 0.5]]])
    near = build_classifier("nearest").scores(support, query, 2).logits[0, 0]
    mean = build_classifier("prototype").scores(support, query, 2).logits[0, 0]
    assert near.tolist() == pytest.approx([-0.25, -22.25])
    assert mean.tolist() == pytest.approx([-25.25, -22.25])


@pytest.mark.parametrize("name", sorted(POOLED))
def test_empty_features_do_not_become_nan(name: str) -> None:
    zeros = torch.zeros(2, 3, 8)
    scores = build_classifier(name).scores(zeros, torch.zeros(2, 4, 8), 3)
    assert scores.logits.isfinite().all()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SkelfewError, match="no classifier 'svm'; there are cosine, "):
        build_classifier("svm")
    for settings, message in (
        ({"rule": "median"}, "rule is 'median'; expected class_mean"),
        ({"scale": 0}, "greater than 0"),
        ({"lr": 0.0}, "lr is 0.0; it must be greater than 0"),
        ({"entropy_on": "all"}, "expected support, query"),
    ):
        with pytest.raises(SkelfewError, match=message):
            build_classifier("cosine", settings)
    assert build_classifier("nearest", {"scale": 3.0}) == build_classifier("nearest")


def test_transductive_is_noted() -> None:
    def transductive(classifier: Classifier) -> bool:
        return bool(getattr(classifier, "transductive", False))

    settings = {"tune_steps": 5, "entropy": 1.0, "entropy_on": "query"}
    assert transductive(build_classifier("cosine", settings))
    assert not transductive(build_classifier("cosine", {**settings, "tune_steps": 0}))
    assert not transductive(build_classifier("cosine-paper"))
