"""Scores and their intervals: against plain loops, known distributions and real encoders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_world import NOVEL, make_data, make_run

from skelfew.config import InputConfig
from skelfew.data.episodes import sample_episodes
from skelfew.data.protocols.protocol import load_protocol
from skelfew.encoders.features import kept, raw_features
from skelfew.errors import SkelfewError
from skelfew.evaluation.document import EvaluationPlan, evaluate
from skelfew.evaluation.scoring import (
    Features,
    score_draws,
    score_episodes,
    score_exemplars,
    score_medoids,
)
from skelfew.evaluation.statistics import bootstrap, confusion_matrix, per_class, student_interval
from skelfew.evaluation.subjects import encoder_subject, raw_subject, run_subject
from skelfew.fewshot import CLASSIFIERS, build_classifier
from skelfew.runs.folder import Run


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    return tmp_path


def clusters(classes: int = 6, each: int = 30, spread: float = 1.5) -> Features:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1, classes + 1).repeat_interleave(each)
    values = torch.randn(classes + 1, 16, generator=generator)[labels]
    values = values + spread * torch.randn(len(labels), 16, generator=generator)
    return Features(values, tuple(f"x{i}" for i in range(len(labels))), labels)


# --- statistics ------------------------------------------------------------------------------


def test_confusion_and_per_class() -> None:
    confusion = confusion_matrix(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 2]), 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 2, 1], [0, 0, 0]]
    assert per_class(confusion)[:2].tolist() == [0.5, pytest.approx(2 / 3)]
    assert np.isnan(per_class(confusion)[2])


def test_bootstrap_equals_resampling_the_queries() -> None:
    """The multinomial shortcut against drawing query by query."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, 300)
    predicted = np.where(rng.random(300) < 0.4 + 0.15 * truth, truth, (truth + 1) % 4)
    confusion = confusion_matrix(truth, predicted, 4)
    micro, macro = bootstrap(confusion, resamples=20_000)
    draws = rng.integers(0, 300, size=(4000, 300))
    hits = truth[draws] == predicted[draws]
    classes = np.stack([(hits & (truth[draws] == c)).sum(1) for c in range(4)], axis=1)
    counts = np.stack([(truth[draws] == c).sum(1) for c in range(4)], axis=1)
    for estimate, samples in ((micro, hits.mean(1)), (macro, (classes / counts).mean(1))):
        low, high = np.percentile(samples, [2.5, 97.5])
        assert estimate.low == pytest.approx(low, abs=0.006)
        assert estimate.high == pytest.approx(high, abs=0.006)
    assert micro.value == np.mean(truth == predicted)
    assert macro.value == pytest.approx(np.nanmean(per_class(confusion)))


def test_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        right = rng.binomial(50, [0.5, 0.7, 0.9])
        micro, _ = bootstrap(np.diag(right) + np.roll(np.diag(50 - right), 1, axis=1), 1000)
        covered += micro.low <= 0.7 <= micro.high  # type: ignore[operator]
    assert 0.91 < covered / 400 < 0.98


def test_bootstrap_survives_a_class_without_queries() -> None:
    micro, macro = bootstrap(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert micro.value == 7 / 8 and macro.value == 7 / 8
    assert macro.low is not None and 0 <= macro.low <= 7 / 8


@pytest.mark.parametrize(
    ("values", "difference", "text"),
    [
        ([0.5, 0.55, 0.6], False, "55.0 % [42.6, 67.4]"),
        ([0.7, 0.95, 0.99], False, "88.0 % [49.0, 100.0]"),
        ([0.0, 0.02, 0.3], False, "10.7 % [0.0, 52.3]"),
        ([-0.9, 0.1], True, "-40.0 % [-100.0, 100.0]"),
        ([1.0, 1.0], False, "100.0 % [100.0, 100.0]"),
        ([0.5], False, "50.0 %"),
    ],
)
def test_intervals_are_student_s_and_of_what_can_be(
    values: list[float], difference: bool, text: str
) -> None:
    estimate = student_interval(values, "splits", difference)
    assert str(estimate) == text and estimate.count == len(values)


# --- scores ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_episodes_equal_a_loop(name: str) -> None:
    """Blocks of episodes score as one episode at a time does."""
    features, classifier = clusters(), build_classifier(name)
    if name == "dtw":
        features = replace(features, values=features.values.unflatten(1, (1, 2, -1)))
    result = score_episodes(features, [1, 2, 4, 6], classifier, 3, 2, 5, 150, seed=4)
    of = torch.isin(features.labels, torch.tensor([1, 2, 4, 6])).nonzero().flatten()
    support, query = sample_episodes(
        features.labels[of], 3, 2, 5, 150, torch.Generator().manual_seed(4)
    )
    accuracies = []
    for s, q in zip(of[support], of[query], strict=True):
        logits = classifier.scores(features.values[s][None], features.values[q][None], 3).logits
        truth = torch.arange(3).repeat_interleave(5)
        accuracies.append(float((logits[0].argmax(1) == truth).double().mean()))
    assert result.micro.value == pytest.approx(np.mean(accuracies))
    assert result.micro.high == pytest.approx(student_interval(accuracies, "episodes").high)
    assert result.chance == 1 / 3 and result.queries == 15
    assert len(result.per_class) == 4 and all(0 <= a <= 1 for a in result.per_class)


def test_random_features_score_at_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat_interleave(100)
    features = Features(
        torch.randn(500, 16, generator=generator), tuple(map(str, range(500))), labels
    )
    result = score_episodes(features, range(5), build_classifier("cosine"), 5, 1, 15, 4000, seed=0)
    assert result.micro.value == pytest.approx(0.2, abs=0.01)


def test_exemplars_are_scored_as_the_protocol_says(world: Path) -> None:
    manifest, store = make_data(world)
    protocol = load_protocol("tiny", manifest)
    novel = manifest.subset(NOVEL)
    labels = torch.tensor([s.class_id for s in novel])
    features = Features(raw_features(store, novel.ids), tuple(novel.ids), labels)
    result = score_exemplars(features, protocol, build_classifier("nearest"), shots=2)
    assert result.exemplars[4] == ("c4_s1", "c4_s2")
    assert result.queries == 3 * 6
    support = features.values[features.rows([i for c in NOVEL for i in result.exemplars[c]])]
    right = 0
    for sample_id in protocol.queries(2):
        distances = (support - features.values[features.rows([sample_id])]).norm(dim=1)
        right += NOVEL[int(distances.argmin()) // 2] == manifest[sample_id].class_id
    assert result.micro.value == right / 18
    assert result.confusion is not None and result.confusion.sum() == 18
    assert np.diag(result.confusion).sum() == right
    cells = result.to_dict({})["answers"]
    queries = protocol.queries(2)
    assert sorted(i for row in cells.values() for ids in row.values() for i in ids) == sorted(
        queries
    )
    assert result.confusion is not None
    for row, true in enumerate(NOVEL):
        for column, taken in enumerate(NOVEL):
            ids = cells[str(true)].get(str(taken), [])
            assert len(ids) == result.confusion[row, column]
            assert all(i.startswith(f"c{true}_") for i in ids)
    fewer = score_exemplars(
        features, protocol, build_classifier("nearest"), 1, exclude=["synchronised_views"]
    )
    assert fewer.queries == 20


def test_draws_vary_the_exemplars_and_score_all_others() -> None:
    features = clusters()
    one = score_draws(features, [1, 3, 5], build_classifier("cosine"), 1, draws=6, seed=0)
    again = score_draws(features, [1, 3, 5], build_classifier("cosine"), 1, draws=6, seed=0)
    assert one.micro == again.micro and one.micro.count == 6 and one.micro.of == "draws"
    assert one.confusion is not None and one.confusion.sum() == 6 * 87
    assert one.micro.low != one.micro.high
    answers = one.to_dict({})["answers"]
    named = {int(t): {i for ids in cells.values() for i in ids} for t, cells in answers.items()}
    assert {t: len(ids) for t, ids in named.items()} == {1: 30, 3: 30, 5: 30}, "each once"
    with pytest.raises(SkelfewError, match="class 1 has 30 samples; 30 exemplars leave no query"):
        score_draws(features, [1, 3], build_classifier("cosine"), 30, draws=1, seed=0)


def test_draws_within_groups_compare_with_exemplars_of_the_group_alone() -> None:
    """Two cameras that disagree about which class is which: within one, all classes differ."""
    labels = torch.tensor([1, 3] * 8)
    views = ["left"] * 8 + ["right"] * 8
    towards = torch.where(labels == 1, 1.0, -1.0) * torch.tensor([1.0] * 8 + [-1.0] * 8)
    values = torch.stack([towards, torch.full((16,), 0.1)], dim=1)
    features = Features(values, tuple(f"s{i:02}" for i in range(16)), labels)
    cosine = build_classifier("cosine")
    mixed = score_draws(features, [1, 3], cosine, 1, draws=20, seed=0)
    within = score_draws(features, [1, 3], cosine, 1, draws=20, seed=0, groups=views)
    assert mixed.micro.value < 0.7 and within.micro.value == 1.0
    assert mixed.queries == 14 and within.queries == 12
    assert within.confusion is not None and within.confusion.sum() == 20 * 12
    with pytest.raises(SkelfewError, match="class 1 has 4 samples in left; 4 exemplars leave no"):
        score_draws(features, [1, 3], cosine, 4, draws=1, seed=0, groups=views)


def test_medoids_are_found_by_the_classifiers_own_measure_and_beat_most_draws() -> None:
    features, classes = clusters(spread=2.5), [1, 2, 3, 4, 5, 6]
    cosine = build_classifier("cosine")
    best = score_medoids(features, classes, cosine, 1)
    unit = torch.nn.functional.normalize(features.values, dim=1)
    for c in classes:
        rows = (features.labels == c).nonzero().flatten()
        central = rows[(unit[rows] @ unit[rows].T).sum(dim=0).argmax()]
        assert best.exemplars[c] == (features.ids[central],)
    drawn = score_draws(features, classes, cosine, 1, draws=40, seed=0)
    assert len(drawn.draws) == 40 and np.mean(drawn.draws) == pytest.approx(drawn.micro.value)
    assert best.micro.value > np.percentile(drawn.draws, 90)
    assert best.queries == drawn.queries == 6 * 29
    more = score_medoids(features, classes, cosine, 3, groups=["a", "b"] * 90)
    assert all(len(set(ids)) == 6 for ids in more.exemplars.values()) and more.queries == 6 * 24


def test_broken_features_are_refused() -> None:
    values = torch.zeros(3, 2)
    values[1, 0] = torch.nan
    with pytest.raises(SkelfewError, match="sample b are not finite"):
        Features(values, ("a", "b", "c"), torch.zeros(3, dtype=torch.long))


# --- subjects and documents ------------------------------------------------------------------


def test_features_are_extracted_once_and_again_if_anything_changed(tmp_path: Path) -> None:
    calls = []

    def make() -> torch.Tensor:
        calls.append(1)
        return torch.ones(2, 3) * len(calls)

    for about, ids, number in (
        ({"encoder": "a"}, ["x", "y"], 1),
        ({"encoder": "a"}, ["x", "y"], 1),
        ({"encoder": "b"}, ["x", "y"], 2),
        ({"encoder": "a"}, ["y", "x"], 3),
    ):
        assert kept(tmp_path / "features", about, ids, make)[0, 0] == number
    for path in (tmp_path / "features").iterdir():
        path.write_bytes(path.read_bytes()[:40])  # cut off
    assert kept(tmp_path / "features", {"encoder": "a"}, ["x", "y"], make)[0, 0] == 4
    assert kept(None, {"encoder": "a"}, ["x", "y"], make)[0, 0] == 5


def test_a_run_is_evaluated_with_its_own_protocol(world: Path) -> None:
    subject = run_subject(Run.open(make_run(world)), InputConfig())
    plan = EvaluationPlan({n: build_classifier(n) for n in ("cosine", "nearest")})
    document = evaluate([subject], plan)
    again = evaluate([run_subject(Run.open(world / "runs" / "tiny-a"), InputConfig())], plan)
    assert [r["micro"] for r in document["rows"]] == [r["micro"] for r in again["rows"]]
    assert len(list((world / "runs" / "tiny-a" / "features").iterdir())) == 1
    assert document["protocol"]["name"] == "tiny" and document["mode"] == "exemplars"
    row = document["rows"][0]
    assert row["features"] == "tiny-a" and row["classifier"] == "cosine"
    (result,) = row["results"]
    assert result["exemplars"] == {"3": ["c3_s1"], "4": ["c4_s1"], "5": ["c5_s1"]}
    assert [c["name"] for c in result["classes"]] == ["action 3", "action 4", "action 5"]
    assert result["chance"] == pytest.approx(1 / 3) and result["queries"] == 21
    assert document["subjects"][0]["encoder_sha256"]
    assert document["notes"] == [] and document["teacher_untrained"] is None
    assert {"skelfew", "torch"} <= set(document["versions"])


def test_the_encoder_is_in_evaluation_mode_and_batches_do_not_matter(world: Path) -> None:
    subject = run_subject(Run.open(make_run(world)), InputConfig())
    ids = subject.manifest.subset(NOVEL).ids
    both = replace(subject).features(ids)
    alone = subject.features(ids[3:4])
    torch.testing.assert_close(both[3:4], alone, rtol=1e-4, atol=1e-4)


def test_what_was_trained_on_is_never_scored(world: Path) -> None:
    path = make_run(world, protocol="tiny-splits", split="2")
    subject = run_subject(Run.open(path), InputConfig())
    plan = EvaluationPlan({"cosine": build_classifier("cosine")})
    document = evaluate([subject], plan)
    assert document["protocol"]["splits"] == ["2"], "its own split by default"
    for other in ("1", "all"):
        with pytest.raises(SkelfewError, match=r"trained on class 4, 5, novel in split 1 of tiny-"):
            evaluate([subject], replace(plan, split=other))
    with pytest.raises(SkelfewError, match="trained on class 4, 5, novel of tiny"):
        evaluate([subject], replace(plan, protocol="tiny"))


def test_runs_of_several_splits_are_averaged(world: Path) -> None:
    paths = [make_run(world, f"s{k}", protocol="tiny-splits", split=str(k)) for k in (1, 2)]
    subjects = [run_subject(Run.open(p), InputConfig()) for p in paths]
    raw = raw_subject(subjects[0].manifest, subjects[0].store)
    plan = EvaluationPlan({"cosine": build_classifier("cosine")}, average=True)
    document = evaluate([*subjects, raw], plan)
    mean, baseline = document["rows"]
    assert mean["features"] == "2 runs" and baseline["features"] == "raw skeletons"
    values = [np.trace(np.array(r["confusion"])) / r["queries"] for r in mean["results"]]
    assert mean["micro"]["value"] == pytest.approx(np.mean(values))
    assert mean["micro"]["of"] == "splits" and mean["micro"]["count"] == 2
    assert [r["split"] for r in baseline["results"]] == ["1", "2"]
    apart = evaluate(subjects, replace(plan, average=False))
    assert [row["features"] for row in apart["rows"]] == ["s1", "s2"]


def test_raw_skeletons_take_all_splits(world: Path) -> None:
    manifest, store = make_data(world)
    plan = EvaluationPlan({"cosine": build_classifier("cosine")}, protocol="tiny-splits")
    document = evaluate([raw_subject(manifest, store)], plan)
    assert [r["split"] for r in document["rows"][0]["results"]] == ["1", "2"]
    assert document["rows"][0]["micro"]["value"] > 0.6, "these motions are easy to tell apart"


def test_notes_say_what_a_score_is_worth(world: Path) -> None:
    teacher = {"name": "xclip", "trained": False}
    path = make_run(world, teacher=teacher, metadata={"init": "other/encoder.safetensors"})
    tuned = build_classifier("cosine", {"tune_steps": 2, "entropy": 1.0, "entropy_on": "query"})
    plan = EvaluationPlan({"cosine": tuned}, exclude=("synchronised_views",))
    document = evaluate([run_subject(Run.open(path), InputConfig())], plan)
    assert document["teacher_untrained"] is True
    notes = " ".join(document["notes"])
    assert "UNTRAINED" in notes and "began from other/encoder" in notes
    assert "transductive" in notes
    plan = EvaluationPlan({"cosine": build_classifier("cosine")}, shots=1)
    manifest, store = make_data(world, each=7)
    document = evaluate([raw_subject(manifest, store)], replace(plan, protocol="tiny"))
    assert "18 queries, but the complete data set has 21" in document["notes"][0]


def test_an_encoder_of_another_skeleton_is_refused(world: Path) -> None:
    from skelfew.encoders import build_encoder
    from skelfew.encoders.checkpoints import save_encoder

    manifest, store = make_data(world)
    path = world / "other.safetensors"
    save_encoder(path, build_encoder("ctrgcn", "kinect-v2", bodies=1, width=0.125), {})
    with pytest.raises(SkelfewError, match=r"an encoder of kinect-v2 skeletons, but .* kinect-v1"):
        encoder_subject(path, manifest, store)
    save_encoder(path, build_encoder("ctrgcn", "kinect-v1", bodies=1, width=0.125), {})
    subject = encoder_subject(path, manifest, store)
    plan = EvaluationPlan({"cosine": build_classifier("cosine")}, protocol="tiny")
    assert "does not say what it was trained on" in evaluate([subject], plan)["notes"][0]


def test_modes_that_do_not_go_together(world: Path) -> None:
    manifest, store = make_data(world)
    raw = raw_subject(manifest, store)
    plan = EvaluationPlan(
        {"cosine": build_classifier("cosine")}, mode="episodes", protocol="tiny", ways=2
    )
    result = evaluate([raw], replace(plan, episodes=30, queries=3))["rows"][0]["results"][0]
    assert result["queries"] == 6 and result["confusion"] is None
    with pytest.raises(SkelfewError, match="is for --mode exemplars"):
        evaluate([raw], replace(plan, exclude=("synchronised_views",)))
    with pytest.raises(SkelfewError, match=r"too few in class 3 \(8\)"):
        evaluate([raw], replace(plan, queries=15))
