"""Map of the scored samples in the encoder's space, on two axes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelfew.errors import SkelfewError
from skelfew.report.collect import RunFacts, Score
from skelfew.report.confusion import name_of
from skelfew.report.markup import Safe, percent, table, tag
from skelfew.runs.recorded import checked

_POINTS = 1500  # drawn at most
_SIZE, _EDGE = 360, 16
_SHAPES = ("circle", "square", "triangle", "diamond")
_COLOURS = 6  # of page.css


@dataclass(frozen=True)
class Embedding:
    """Samples in the plane."""

    ids: tuple[str, ...]  # sample IDs, n
    labels: np.ndarray  # class numbers (n,)
    # (n, 2), the first two principal components of the features scaled to length 1
    points: np.ndarray
    explained: tuple[float, float]  # share of the variance along each
    # For each class the one with the most similar mean, and the cosine of both
    neighbours: dict[int, tuple[int, float]]
    count: int  # samples before some were left out


def embed(
    facts: RunFacts, score: Score, manifest: Path | None = None, store: Path | None = None
) -> Embedding:
    """Compute the features of the scored classes, or take those that were kept; place them in the
    plane.

    Raises SkelfewError: the run is not finished, or its data are not there.
    """
    from skelfew.config import InputConfig
    from skelfew.evaluation.document import class_features
    from skelfew.evaluation.subjects import run_subject

    given = InputConfig()
    if manifest or store or facts.run.config().inputs.dataset != score.dataset:
        given = InputConfig(
            dataset=score.dataset,
            manifest=str(manifest) if manifest else None,
            store=str(store) if store else None,
        )
    recorded = score.document["protocol"]["path"]
    protocol = checked(recorded, facts.run.path, "the protocol", "score it with --protocol")
    subject = run_subject(facts.run, given, protocol=protocol)
    features = class_features(subject, sorted(score.names))
    return place(features.values.numpy(), features.labels.numpy(), features.ids)


def place(values: np.ndarray, labels: np.ndarray, ids: tuple[str, ...]) -> Embedding:
    """Place features (n, D) of classes (n,) in the plane; SkelfewError if n is below three."""
    if len(values) < 3:
        raise SkelfewError(f"{len(values)} samples make no map")
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit = values.astype(np.float64) / np.maximum(lengths, 1e-12)
    centred = unit - unit.mean(axis=0)
    # Of the D x D scatter, which is small, rather than of n x D values, which may be many.
    spread, axes = np.linalg.eigh(centred.T @ centred)
    two = axes[:, [-1, -2]] if axes.shape[1] > 1 else np.repeat(axes, 2, axis=1)
    two = two * np.where(two[np.abs(two).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    points = centred @ two
    total = max(float(spread.sum()), 1e-12)
    explained = (float(spread[-1]) / total, float(spread[-2:-1].sum()) / total)
    step = -(-len(ids) // _POINTS)
    kept = np.concatenate([np.flatnonzero(labels == c)[::step] for c in np.unique(labels)])
    return Embedding(
        tuple(ids[i] for i in kept),
        labels[kept],
        points[kept],
        explained,
        _neighbours(unit, labels),
        len(ids),
    )


def _neighbours(unit: np.ndarray, labels: np.ndarray) -> dict[int, tuple[int, float]]:
    classes = np.unique(labels)
    if len(classes) < 2:
        return {}
    means = np.stack([unit[labels == c].mean(axis=0) for c in classes])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    cosines = means @ means.T - 3 * np.eye(len(classes))
    nearest = cosines.argmax(axis=1)
    return {
        int(c): (int(classes[j]), float(cosines[i, j]))
        for i, (c, j) in enumerate(zip(classes, nearest, strict=True))
    }


def draw(embedding: Embedding, score: Score) -> Safe:
    """Return the map with buttons that bring out a class, and a table of nearest classes."""
    low, high = embedding.points.min(axis=0), embedding.points.max(axis=0)
    extent = float(max((high - low).max(), 1e-12))
    middle, room = (low + high) / 2, _SIZE - 2 * _EDGE
    placed = (embedding.points - middle) / extent * room * (1, -1) + _SIZE / 2
    numbers = sorted(set(embedding.labels.tolist()))
    # Neighbours in the list differ in both; 24 classes look different.
    look = {c: (_SHAPES[i % 4], (i + i // 12) % _COLOURS) for i, c in enumerate(numbers)}
    exemplars = {i for ids in score.exemplars.values() for i in ids}
    marks = []
    for sample_id, number, (x, y) in zip(
        embedding.ids, embedding.labels.tolist(), placed.round(1).tolist(), strict=True
    ):
        shape, colour = look[number]
        known = sample_id in exemplars
        says = f"{sample_id}: {name_of(score, number)}{', exemplar' if known else ''}"
        kind = f"mark colour{colour}{' exemplar' if known else ''}"
        marks.append(
            tag(
                "g",
                tag("title", says),
                _shape(shape, 5.5 if known else 3.5),
                transform=f"translate({x} {y})",
                class_=kind,
                data_class=number,
            )
        )
    share = " and ".join(f"{percent(value, 0)} %" for value in embedding.explained)
    count = f"{len(embedding.ids):,} of {embedding.count:,} samples"
    says = f"{count} of {len(numbers)} classes; the two axes hold {share} of the variance"
    svg = tag(
        "svg",
        tag("title", "Map of the embeddings"),
        tag("desc", says),
        marks,
        viewBox=f"0 0 {_SIZE} {_SIZE}",
        role="img",
        aria_label=f"Map of the embeddings: {says}. The table of nearest classes has it in words.",
    )
    buttons = [
        tag(
            "button",
            tag("svg", tag("g", _shape(look[c][0], 4.5), class_=f"mark colour{look[c][1]}"),
                viewBox="-6 -6 12 12", aria_hidden="true"),
            name_of(score, c),
            type="button", aria_pressed="false", data_class=c,
        )
        for c in numbers
    ]  # fmt: skip
    legend = tag("div", buttons, class_="legend", role="group", aria_label="Bring out a class")
    caption = tag("figcaption", f"{says}. Larger marks are exemplars.")
    return tag("div", tag("figure", svg, caption), legend, class_="map")


def _shape(shape: str, size: float) -> Safe:
    if shape == "circle":
        return tag("circle", r=size)
    if shape == "square":
        return tag("rect", x=-size, y=-size, width=2 * size, height=2 * size)
    corners = {
        "triangle": [(0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
        "diamond": [(0, -1.4), (1.2, 0), (0, 1.4), (-1.2, 0)],
    }[shape]
    return tag("polygon", points=" ".join(f"{x * size:g},{y * size:g}" for x, y in corners))


def neighbours_table(embedding: Embedding, score: Score) -> Safe:
    """Return the nearest class of every class as a table, the closest pairs first."""
    rows = [
        [name_of(score, number), name_of(score, other), tag("td", f"{cosine:.3f}", class_="number")]
        for number, (other, cosine) in sorted(embedding.neighbours.items(), key=lambda n: -n[1][1])
    ]
    return table(("class", "nearest class", "cosine of the means"), rows)
