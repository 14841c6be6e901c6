"""Episodes per second of heads and classifiers, beside easyfsl and tslearn, in one run.

Claim: all episodes at once is 8 times (prototypes) and 20 times (fine-tuning) as fast as easyfsl's
one episode at a time, and soft-DTW of all pairs at once 50 times as fast as tslearn's one pair at a
time; one thread, 5-way 1-shot with 15 queries on cached 256-d features (of 16 frames for
soft-DTW), sampling included. Heads without a rival are listed with their own rate. easyfsl's
methods get their episodes as its TaskSampler draws them (random.sample; the sampler itself, of
easyfsl 1.5, does not start under torch 2.15) by plain indexing, which spares it a data loader.

Then the whole one-shot protocol of NTU RGB+D 120 as one episode: 20 classes, 18,924 queries, with
verdicts, confusion matrix and who was taken for what; beside the verdicts alone from easyfsl.

Rates are by processor time of this one thread, so that other work on the machine, which hits both
sides of a ratio in turn, does not count as theirs.

Usage: python benchmarks/heads.py [--json]    (pip install 'skelfew[bench]')
"""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from easyfsl.methods import FEAT, FewShotClassifier, Finetune, PrototypicalNetworks, SimpleShot
from easyfsl.modules.attention_modules import MultiHeadAttention
from support.rows import options, report
from torch import Tensor, nn
from tslearn.metrics import soft_dtw

from skelfew.data.episodes import episode_labels, sample_episodes
from skelfew.evaluation.scoring import Features, episode_hits, score_draws, score_episodes
from skelfew.fewshot import Classifier, build_classifier, build_head
from skelfew.fewshot.head import HeadClassifier

CLASSES, PER_CLASS, DIM, FRAMES, JOINTS, PARTS = 20, 500, 256, 16, 25, 11
FEW_PER_CLASS = 20  # of sequences, which take more memory
WAYS, SHOTS, QUERIES, STEPS, LR = 5, 1, 15, 20, 5e-4
ROUNDS = 5
NOVEL, SAMPLES = 20, 18_944  # of the whole protocol: one exemplar a class, the rest are queries
SHAPES = {"pooled": (), "mirrored": (2,), "frames": (FRAMES,), "joints": (FRAMES, JOINTS)}
SHAPES[build_head("jeanie").reads] = (5, FRAMES)
SHAPES["parts"] = (PARTS,)

Task = Callable[[Tensor, Tensor], Tensor]  # supports and queries of an episode to predictions


@dataclass(frozen=True)
class Case:
    """A classifier, its rival, and how many episodes of each are timed in a round."""

    name: str  # what is printed
    classifier: Classifier  # ours
    episodes: int  # of ours
    rival: Task | None = None  # one episode at a time, None for none
    rival_episodes: int = 0  # of the rival
    goal: int | None = None  # ratio to reach, None for none

    @property
    def reads(self) -> str:
        return getattr(self.classifier, "reads", "pooled")


def make_features(reads: str) -> Features:
    generator = torch.Generator().manual_seed(0)
    each = PER_CLASS if reads in ("pooled", "mirrored", "parts") else FEW_PER_CLASS
    labels = torch.arange(CLASSES).repeat_interleave(each)
    shape = (*SHAPES[reads], DIM)
    centres = torch.randn(CLASSES, *shape, generator=generator)
    noise = torch.randn(len(labels), *shape, generator=generator)
    values = (0.4 * centres[labels] + noise).relu()
    return Features(values, tuple(map(str, range(len(labels)))), labels)


def easyfsl(method: FewShotClassifier) -> Task:
    """easyfsl's way through an episode of one exemplar a class."""

    def predict(support: Tensor, query: Tensor) -> Tensor:
        method.process_support_set(support, torch.arange(len(support)))
        return method(query).argmax(dim=-1)

    return predict


def tslearn(gamma: float) -> Task:
    """tslearn's soft-DTW, a pair at a time."""

    def predict(support: Tensor, query: Tensor) -> Tensor:
        rows = list(support.double().numpy())
        values = [[soft_dtw(q, s, gamma=gamma) for s in rows] for q in query.double().numpy()]
        return torch.tensor(values).argmin(dim=-1)

    return predict


def one_at_a_time(predict: Task, features: Features, episodes: int) -> list[float]:
    """Accuracy of every episode."""
    members: dict[int, list[int]] = {}
    for row, label in enumerate(features.labels.tolist()):
        members.setdefault(label, []).append(row)
    query_labels = episode_labels(WAYS, QUERIES)
    accuracies = []
    for _ in range(episodes):
        rows = [
            random.sample(members[c], SHOTS + QUERIES) for c in random.sample(list(members), WAYS)
        ]
        task = features.values[torch.tensor(rows)]
        hits = predict(task[:, :SHOTS].flatten(0, 1), task[:, SHOTS:].flatten(0, 1)) == query_labels
        accuracies.append(float(hits.float().mean()))
    return accuracies


def agreement(features: Features, predict: Task, classifier: Classifier, episodes: int) -> float:
    """Share of queries of the same episodes that both call right, or both wrong."""
    support, query = sample_episodes(
        features.labels, WAYS, SHOTS, QUERIES, episodes, torch.Generator().manual_seed(1)
    )
    ours, _ = episode_hits(features.values, support, query, WAYS, classifier)
    truth = episode_labels(WAYS, QUERIES)
    theirs = [
        predict(features.values[s], features.values[q]) == truth
        for s, q in zip(support, query, strict=True)
    ]
    return float((ours == torch.stack(theirs)).double().mean())


def rate(run: Callable[[int], object], episodes: int) -> float:
    start = time.process_time()
    run(episodes)
    return episodes / (time.process_time() - start)


def trained(name: str, settings: dict[str, object] | None = None) -> HeadClassifier:
    """A head with weights as they are drawn."""
    torch.manual_seed(0)
    head, parts = build_head(name, settings or {}, DIM), [str(p) for p in range(PARTS)]
    if head.knows_classes:
        rows = {c: torch.randn(PARTS).tolist() for c in range(CLASSES)}
        head.know({c: dict(zip(parts, row, strict=True)) for c, row in rows.items()}, parts)
    return HeadClassifier(head.eval(), name)


def cases() -> list[Case]:
    plain = nn.Identity
    tune = {"tune_steps": STEPS, "lr": LR}
    finetune = Finetune(plain(), fine_tuning_steps=STEPS, fine_tuning_lr=LR)
    feat = trained("feat")
    attention = MultiHeadAttention(1, DIM, DIM, DIM).eval()
    attention.load_state_dict(feat.head.get_submodule("attention").state_dict())
    euclidean = {"frame": "mean", "cost": "euclidean", "divergence": False, "gamma": 1.0}
    return [
        Case(
            "cosine prototypes",
            build_classifier("cosine"),
            6000,
            easyfsl(SimpleShot(plain())),
            600,
            8,
        ),
        Case(
            f"{STEPS}-step fine-tuning",
            build_classifier("cosine", tune),
            6000,
            easyfsl(finetune),
            60,
            20,
        ),
        Case("protonet", trained("protonet"), 6000, easyfsl(PrototypicalNetworks(plain())), 600, 8),
        Case("feat", feat, 4000, easyfsl(FEAT(plain(), attention_module=attention)), 400),
        Case("subspace", trained("subspace"), 1000),
        Case(
            "soft-dtw, squared Euclidean", trained("soft-dtw", euclidean), 120, tslearn(1.0), 2, 50
        ),
        Case("soft-dtw, cosine divergence", trained("soft-dtw", {"frame": "mean"}), 80),
        Case("soft-dtw, frames of all joints", trained("soft-dtw"), 4),
        Case("dastm", trained("dastm"), 1),
        Case("smam", trained("smam"), 1),
        Case("jeanie, 5 views", trained("jeanie"), 20),
        Case("apsr, 11 parts", trained("apsr"), 600),
    ]


def measure(case: Case, features: Features) -> dict[str, object]:
    rates: dict[str, list[float]] = {"skelfew": [], "rival": []}

    def ours(n: int) -> object:
        return score_episodes(features, range(CLASSES), case.classifier, WAYS, SHOTS, QUERIES, n, 0)

    def theirs(n: int) -> object:
        assert case.rival is not None
        return one_at_a_time(case.rival, features, n)

    if case.rival is not None:
        theirs(1)  # compiles, where something is compiled
    for _ in range(ROUNDS if case.rival else 1):  # interleaved: a busy minute hits all alike
        rates["skelfew"].append(rate(ours, case.episodes))
        if case.rival is not None:
            rates["rival"].append(rate(theirs, case.rival_episodes))
    row: dict[str, object] = {
        "case": case.name,
        "skelfew_episodes_per_s": round(statistics.median(rates["skelfew"]), 1),
    }
    if case.rival is None:
        return row
    median = {k: statistics.median(v) for k, v in rates.items()}
    few = min(100, 5 * case.rival_episodes)
    return {
        **row,
        "one_at_a_time_episodes_per_s": round(median["rival"], 2),
        "ratio": round(median["skelfew"] / median["rival"], 1),
        "goal": case.goal,
        "same_verdict_on_same_episodes": round(
            agreement(features, case.rival, case.classifier, few), 4
        ),
    }


def whole_protocol(case: Case) -> dict[str, object]:
    """Seconds for the whole protocol, and for verdicts alone, of both."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES) * NOVEL // SAMPLES
    centres = torch.randn(NOVEL, DIM, generator=generator)
    values = (0.4 * centres[labels] + torch.randn(SAMPLES, DIM, generator=generator)).relu()
    features = Features(values, tuple(map(str, range(SAMPLES))), labels)
    first = labels.diff(prepend=torch.tensor([-1])) != 0
    seconds: dict[str, list[float]] = {"whole": [], "skelfew": [], "rival": []}
    classes = torch.arange(NOVEL)[None]
    for _ in range(2 * ROUNDS):
        start = time.process_time()
        result = score_draws(features, range(NOVEL), case.classifier, SHOTS, 1, 0)
        seconds["whole"].append(time.process_time() - start)
        start = time.process_time()
        support, query = values[first], values[~first]
        case.classifier.scores(support[None], query[None], NOVEL, classes).logits.argmax(dim=-1)
        seconds["skelfew"].append(time.process_time() - start)
        start = time.process_time()
        assert case.rival is not None
        case.rival(values[first], values[~first])
        seconds["rival"].append(time.process_time() - start)
    median = {k: statistics.median(v) for k, v in seconds.items()}
    return {
        "case": f"{case.name}, {result.queries} queries as one episode",
        "skelfew_s": round(median["whole"], 4),
        "verdicts_alone_s": round(median["skelfew"], 4),
        "easyfsl_verdicts_alone_s": round(median["rival"], 4),
        "ratio": round(median["rival"] / median["skelfew"], 1),
    }


def main() -> None:
    as_json = options(__doc__).parse_args().json
    torch.set_num_threads(1)
    random.seed(0)
    rows = []
    known = cases()
    made: dict[str, Features] = {}
    for case in known:
        if case.reads not in made:
            made = {case.reads: make_features(case.reads)}
        with torch.no_grad():
            rows.append(measure(case, made[case.reads]))
    for case in known:
        if case.reads == "pooled":
            with torch.no_grad():
                rows.append(whole_protocol(case))
    setting = f"{WAYS}-way {SHOTS}-shot {QUERIES} queries, {DIM}-d, 1 thread"
    report("heads", as_json, setting=setting, rows=rows)


if __name__ == "__main__":
    main()
