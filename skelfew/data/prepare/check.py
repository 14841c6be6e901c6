"""Checking what was prepared: manifest, skeleton store and videos against each other."""

import json
from pathlib import Path

import numpy as np

from skelfew.data.manifest import Manifest
from skelfew.data.prepare.plausible import Survey, labels_alike, unlike_videos
from skelfew.data.prepare.walk import Outputs, counts
from skelfew.data.store import SkeletonStore
from skelfew.io.files import Document
from skelfew.io.paths import below

_NAMED = 5  # how many samples a problem names


def check(outputs: Outputs) -> tuple[Document, dict[int, str]]:
    """Return a report, ready for JSON, and the class names; ``problems`` are what does not fit."""
    manifest = Manifest.read(outputs.manifest)
    with SkeletonStore(outputs.store, check=False) as store:
        problems = _disagreements(manifest, store)
        skeletons = _skeletons(store, {s.sample_id: s.class_id for s in manifest})
        stored_digest = str(store.attrs.get("digest", ""))
        reader = str(store.attrs.get("reader", ""))
    if skeletons["digest"] != stored_digest:
        problems.append(
            f"{outputs.store}: damaged: its content has digest {skeletons['digest'][:12]}, "
            f"it was written with {stored_digest[:12]}; prepare the data set again"
        )
    if skeletons["non_finite_frames"]:
        problems.append(f"{skeletons['non_finite_frames']} frames with NaN or infinity")
    problems += skeletons["implausible"] + labels_alike(manifest)
    absent = _absent_videos(outputs, manifest)
    if absent:
        problems.append(f"{len(absent)} videos are not where {outputs.local} says: {_few(absent)}")
    else:
        problems += unlike_videos(manifest, _video_folder(outputs), reader)
    without = [s.sample_id for s in manifest if not s.video]
    report = {
        "dataset": manifest.name,
        "manifest": str(outputs.manifest),
        "store": str(outputs.store),
        **counts(manifest),
        **skeletons,
        "without_video": without if len(without) < len(manifest) else "all",
        "problems": problems,
    }
    return report, manifest.classes


def _disagreements(manifest: Manifest, store: SkeletonStore) -> list[str]:
    problems = []
    if lost := [i for i in manifest.ids if i not in store]:
        problems.append(f"{len(lost)} samples have no skeleton: {_few(lost)}")
    if surplus := [i for i in store if i not in manifest]:
        problems.append(f"{len(surplus)} skeletons are not in the manifest: {_few(surplus)}")
    if len(set(store.ids)) < len(store):
        problems.append("the store has a sample_id more than once")
    differing = []
    for sample in manifest:
        if sample.sample_id in store:
            row = store.row(sample.sample_id)
            if (sample.frames, sample.bodies) != (store.frames[row], store.bodies[row]):
                differing.append(sample.sample_id)
    if differing:
        problems.append(
            f"frames or bodies of {len(differing)} samples differ between manifest and store: "
            f"{_few(differing)}"
        )
    if store.attrs.get("manifest_sha256") != manifest.sha256:
        problems.append(
            "the manifest is not the one that the skeletons were written with (its hash "
            "differs); prepare the data set again, or restore the manifest"
        )
    return problems


def _skeletons(store: SkeletonStore, classes: dict[str, int]) -> Document:
    """Read every skeleton once: count empty and non-finite frames, hash, and look for oddities."""
    empty = non_finite = 0
    survey = Survey(store.joint_layout, store.coordinates)
    for sample_id in store:
        positions = store[sample_id].positions
        empty += int((~positions.any(axis=(0, 2, 3))).sum())
        non_finite += int((~np.isfinite(positions).all(axis=(0, 2, 3))).sum())
        survey.add(sample_id, positions, classes.get(sample_id, 0))
    return {
        "digest": store.content_digest(),
        "empty_frames": empty,
        "non_finite_frames": non_finite,
        "equal_skeletons": len(survey.equal),
        "equal_pairs": [list(pair) for pair in survey.equal],
        "implausible": survey.findings(),
    }


def _video_folder(outputs: Outputs) -> Path | None:
    """Return where the videos lie on this machine, if that is known."""
    if not outputs.local.exists():
        return None
    return Path(json.loads(outputs.local.read_text(encoding="utf-8"))["videos"])


def _absent_videos(outputs: Outputs, manifest: Manifest) -> list[str]:
    """Return the videos that the manifest names but this machine lacks, if it had them."""
    folder = _video_folder(outputs)
    if folder is None:
        return []
    return [
        s.video
        for s in manifest
        if s.video and not below(folder, s.video, manifest.path, links=True).is_file()
    ]


def _few(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
