"""Three recordings of each action, the rest asked for: accuracy, and "none of these", in one run.

Claim: the threshold that --reject learns from the support set keeps most recordings of taught
actions and turns most of others away. Of a run's novel classes, half are taught in every draw from
K recordings each, drawn from all, and all other recordings are asked for.

Usage: python benchmarks/reject.py [--run RUN] [--draws 100] [--json]
"""

from typing import Any

import torch
from support.rows import options, report

from skelfew.config import InputConfig
from skelfew.evaluation.statistics import student_interval
from skelfew.evaluation.subjects import raw_subject, run_subject
from skelfew.predict.rejection import learn_rejection
from skelfew.predict.similarity import class_means, confidence_scale, cosines
from skelfew.runs.folder import Run, newest_run

SHOTS = (1, 3, 5)


def draw(
    values: torch.Tensor, labels: torch.Tensor, shots: int, generator: torch.Generator
) -> dict[str, float]:
    """Teach half of the classes, ask for everything else."""
    classes = labels.unique()
    classes = classes[torch.randperm(len(classes), generator=generator)]
    known = classes[: (len(classes) + 1) // 2]
    support = []
    for class_id in known:
        rows = (labels == class_id).nonzero().flatten()
        support.append(rows[torch.randperm(len(rows), generator=generator)[:shots]])
    rows, truth = torch.cat(support), torch.arange(len(known)).repeat_interleave(shots)
    asked = torch.ones(len(labels), dtype=torch.bool)
    asked[rows] = False
    taught = torch.isin(labels, known)
    rejection = learn_rejection(values[rows], truth)
    similar = cosines(class_means(values[rows], truth), values)
    best = similar.max(dim=1)
    right = known[best.indices] == labels
    accepted = best.values >= rejection.threshold
    chances = (confidence_scale(values[rows], truth) * similar.double()).softmax(dim=1)
    here, elsewhere = asked & taught, asked & ~taught
    return {
        "accuracy": float(right[here].float().mean()),
        "mean_confidence": float(chances.amax(dim=1)[here].mean()),
        "false_rejects": float((~accepted)[here].float().mean()),
        "false_accepts": float(accepted[elsewhere].float().mean()),
        "right_and_accepted": float((right & accepted)[here].float().mean()),
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--run")
    parser.add_argument("--draws", type=int, default=100)
    given = parser.parse_args()
    run = Run.open(given.run) if given.run else newest_run()
    subject = run_subject(run, InputConfig())
    raw = raw_subject(subject.manifest, subject.store)
    novel = subject.about["metadata"]["novel"]
    samples = list(subject.manifest.subset(novel))
    labels = torch.tensor([s.class_id for s in samples])
    rows: list[dict[str, Any]] = []
    for one in (subject, raw):
        values = one.features([s.sample_id for s in samples])
        for shots in SHOTS:
            generator = torch.Generator().manual_seed(0)
            found = [draw(values, labels, shots, generator) for _ in range(given.draws)]
            means = {k: student_interval([f[k] for f in found], "draws") for k in found[0]}
            rows.append({"features": one.name, "shots": shots, **means})
    if given.json:
        rows = [{k: getattr(v, "value", v) for k, v in row.items()} for row in rows]
    known = (len(novel) + 1) // 2
    setting = f"{known} of {len(novel)} novel classes taught, {given.draws} draws"
    report("reject", given.json, setting=setting, rows=rows)


if __name__ == "__main__":
    main()
