"""Protocols for data sets of one's own, and random ones."""

import random
from collections.abc import Sequence

from skelfew.data.manifest import Manifest
from skelfew.data.protocols.files import ProtocolError, few
from skelfew.io.files import Document


def make_split(
    manifest: Manifest,
    novel: int | Sequence[int],
    validation: int | Sequence[int] = 0,
    seed: int = 0,
    shots: int = 5,
) -> Document:
    """Return the document of a protocol; of classes, or of how many to draw; nested exemplars."""
    rng = random.Random(seed)
    counts: dict[int, list[str]] = {}
    for sample in manifest:
        counts.setdefault(sample.class_id, []).append(sample.sample_id)
    taken: dict[str, list[int]] = {}
    for part, wanted in (("novel", novel), ("validation", validation)):
        left = [c for c in sorted(counts) if c not in taken.get("novel", [])]
        if isinstance(wanted, int):
            if wanted > len(left) or (part == "novel" and wanted < 1):
                raise ProtocolError(
                    f"{manifest.name}: {wanted} {part} classes asked for, {len(left)} are there"
                )
            taken[part] = sorted(rng.sample(left, wanted))
        else:
            if absent := [c for c in wanted if c not in left]:
                raise ProtocolError(f"{manifest.name}: {part} class {few(absent)} is not there")
            taken[part] = sorted(wanted)
    held_out = {*taken["novel"], *taken["validation"]}
    smallest = min(len(counts[c]) for c in taken["novel"])
    if smallest < 2:
        lone = [c for c in taken["novel"] if len(counts[c]) < 2]
        raise ProtocolError(
            f"{manifest.name}: novel class {few(lone)} has a single sample; an exemplar and "
            "a query are needed, choose other classes"
        )
    most = min(shots, smallest - 1)
    return {
        "name": manifest.name,
        "dataset": manifest.name,
        "source": f"skelfew-prepare split, seed {seed}",
        "base": [c for c in sorted(counts) if c not in held_out],
        "validation": taken["validation"],
        "novel": taken["novel"],
        "exemplars": {
            str(most): {str(c): rng.sample(sorted(counts[c]), most) for c in taken["novel"]}
        },
    }
