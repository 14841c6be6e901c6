"""Episodes per second of cosine prototypes and of 20-step fine-tuning, beside easyfsl, in one run.

Claim: all episodes at once is 8 times (prototypes) and 20 times (fine-tuning) as fast as one
episode at a time, in one thread, 5-way 1-shot with 15 queries on cached 256-d features, sampling
included. easyfsl's methods get their episodes as its TaskSampler draws them (random.sample; the
sampler itself, of easyfsl 1.5, does not start under torch 2.15) by plain indexing, which
spares it a data loader.

Usage: python benchmarks/heads.py [--json]    (pip install 'skelfew[bench]')
"""

import json
import random
import statistics
import sys
import time
from collections.abc import Callable

import torch
from easyfsl.methods import FewShotClassifier, Finetune, SimpleShot
from torch import nn

from skelfew.data.episodes import episode_labels, sample_episodes
from skelfew.evaluate import Features, episode_hits, score_episodes
from skelfew.fewshot import Classifier, build_classifier

CLASSES, PER_CLASS, DIM = 20, 500, 256
WAYS, SHOTS, QUERIES, STEPS, LR = 5, 1, 15, 20, 5e-4
ROUNDS = 5


def make_features() -> Features:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    centres = torch.randn(CLASSES, DIM, generator=generator)
    noise = torch.randn(len(labels), DIM, generator=generator)
    values = (0.4 * centres[labels] + noise).relu()
    return Features(values, tuple(map(str, range(len(labels)))), labels)


def easyfsl(method: FewShotClassifier, features: Features, episodes: int) -> list[float]:
    """Accuracy of every episode, one at a time."""
    members: dict[int, list[int]] = {}
    for row, label in enumerate(features.labels.tolist()):
        members.setdefault(label, []).append(row)
    support_labels = episode_labels(WAYS, SHOTS)
    query_labels = episode_labels(WAYS, QUERIES)
    accuracies = []
    for _ in range(episodes):
        rows = [
            random.sample(members[c], SHOTS + QUERIES) for c in random.sample(list(members), WAYS)
        ]
        task = features.values[torch.tensor(rows)]
        method.process_support_set(task[:, :SHOTS].flatten(0, 1), support_labels)
        hits = method(task[:, SHOTS:].flatten(0, 1)).argmax(dim=-1) == query_labels
        accuracies.append(float(hits.float().mean()))
    return accuracies


def agreement(features: Features, method: FewShotClassifier, classifier: Classifier) -> float:
    """Share of queries of the same 100 episodes that both call right, or both wrong."""
    support, query = sample_episodes(
        features.labels, WAYS, SHOTS, QUERIES, 100, torch.Generator().manual_seed(1)
    )
    ours, _ = episode_hits(features.values, support, query, WAYS, classifier)
    theirs = []
    for s, q in zip(support, query, strict=True):
        method.process_support_set(features.values[s], episode_labels(WAYS, SHOTS))
        theirs.append(method(features.values[q]).argmax(-1) == episode_labels(WAYS, QUERIES))
    return float((ours == torch.stack(theirs)).double().mean())


def rate(run: Callable[[int], object], episodes: int) -> float:
    start = time.perf_counter()
    run(episodes)
    return episodes / (time.perf_counter() - start)


def main() -> None:
    torch.set_num_threads(1)
    random.seed(0)
    features = make_features()
    classes = range(CLASSES)
    cases = (
        (
            "cosine prototypes",
            SimpleShot(backbone=nn.Identity()),
            build_classifier("cosine"),
            6000,
            600,
            8,
        ),
        (
            f"{STEPS}-step fine-tuning",
            Finetune(backbone=nn.Identity(), fine_tuning_steps=STEPS, fine_tuning_lr=LR),
            build_classifier("cosine", {"tune_steps": STEPS, "lr": LR}),
            6000,
            60,
            20,
        ),
    )
    rows = []
    for name, method, classifier, many, few, goal in cases:

        def ours(n: int, classifier: Classifier = classifier) -> object:
            return score_episodes(features, classes, classifier, WAYS, SHOTS, QUERIES, n, 0)

        def plain(n: int, method: FewShotClassifier = method) -> object:
            return easyfsl(method, features, n)

        rates: dict[str, list[float]] = {"skelfew": [], "easyfsl": []}
        for _ in range(ROUNDS):  # interleaved, so that a busy minute hits all alike
            rates["skelfew"].append(rate(ours, many))
            rates["easyfsl"].append(rate(plain, few))
        median = {k: statistics.median(v) for k, v in rates.items()}
        rows.append(
            {
                "case": name,
                "skelfew_episodes_per_s": round(median["skelfew"]),
                "easyfsl_episodes_per_s": round(median["easyfsl"]),
                "ratio": round(median["skelfew"] / median["easyfsl"], 1),
                "goal": goal,
                "same_verdict_on_same_episodes": round(agreement(features, method, classifier), 4),
            }
        )
    if "--json" in sys.argv:
        setting = f"{WAYS}-way {SHOTS}-shot {QUERIES} queries, {DIM}-d, 1 thread"
        print(json.dumps({"benchmark": "heads", "setting": setting, "rows": rows}, indent=2))
        return
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
