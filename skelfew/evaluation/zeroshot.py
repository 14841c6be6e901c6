"""Zero-shot: skeletons against the texts of classes of which no exemplar is given.

What transfer trains is a way from skeletons into the space of the teacher's projected features, and
the teacher knows a text for every class. So predictor(projector(encoder(x))) of a skeleton can be
compared with the projected text of a class that neither encoder nor projectors have met.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skelfew.cache import TeacherCache, join
from skelfew.cache.format.checks import differences
from skelfew.config import InputConfig
from skelfew.data.manifest import Manifest
from skelfew.data.store import SkeletonStore
from skelfew.errors import SkelfewError
from skelfew.evaluation.answers import TEACHER
from skelfew.evaluation.subjects import Subject, encoder_subject, find_data, own_protocol, unopened
from skelfew.io.files import Document
from skelfew.runs.folder import Run, read_json
from skelfew.runs.inputs import open_caches
from skelfew.runs.recorded import checked
from skelfew.training.stages.bridge import Bridge, bridge_path, load_bridge


def text_subject(
    run: Run,
    given: InputConfig,
    device: str = "cpu",
    protocol: str | None = None,
    texts: str | Path | None = None,
    shift: bool = True,
) -> Subject:
    """Return encoder and bridge of a run, as its transfer stage left them.

    Texts of the classes are those of the cache ``texts``, else of the run's own; ``shift`` adds
    what they lack against a target on average (``Bridge.shift``). Raises SkelfewError: the run has
    no bridge, or no cache has class texts of its teacher.
    """
    stage = _stage(run)
    manifest, store = find_data(given, run.config().inputs, protocol or own_protocol(run, given))
    bridge = load_bridge(bridge_path(run.path, stage))
    encoder = run.path / f"encoder.{stage}.safetensors"
    subject = encoder_subject(encoder, manifest, store, device, run.path / "features")
    where, known = _class_texts(run, bridge, texts, manifest)
    notes, metadata = [*subject.notes, *unopened(run, given)], subject.about["metadata"]
    if metadata.get("teacher") is None:  # the encoder learned from labels, the map from texts
        metadata = {**metadata, "teacher": bridge.about["teacher"]}
        if (bridge.about["teacher"] or {}).get("trained") is False:
            notes.append("what read the texts is UNTRAINED: its vectors are random")
    if shift and bridge.shift is None:
        notes.append("the cache that was trained on has no class texts, so texts are not shifted")
    if others := [s for s in run.config().stages if s != stage]:
        notes.append(f"the encoder as stage {stage} left it; {', '.join(others)} takes no part")

    def features(ids: Sequence[str]) -> Tensor:
        with torch.no_grad():
            projected: Tensor = bridge.skeleton(subject.features(ids))
        return projected

    def vectors(classes: Sequence[int]) -> Tensor:
        if absent := [c for c in classes if c not in known]:
            raise SkelfewError(
                f"{where}: has no text of class {absent[0]} ({manifest.classes.get(absent[0])}); "
                "name a cache that has with --texts"
            )
        rows = torch.from_numpy(np.stack([known[c] for c in classes]))
        if shift and bridge.shift is not None:
            rows = rows + bridge.shift
        with torch.no_grad():
            projected: Tensor = bridge.teacher(rows)
        return projected

    about = {
        **subject.about,
        "metadata": metadata,
        "run": str(run.path),
        "cache": read_json(run.path / "inputs.json").get("cache"),
        "texts": {"texts": str(where), "shift": shift and bridge.shift is not None, "stage": stage},
    }
    return replace(
        subject, name=run.name, features=features, texts=vectors, about=about, notes=tuple(notes)
    )


def teacher_subject(
    place: str | Path, manifest: Manifest, store: SkeletonStore, texts: bool = False
) -> Subject:
    """Return the features f_v that a teacher has of the videos: the ceiling of what it can teach.

    f_t of a sample is the text of its class, so that it would give the answer away; for zero shots
    f_v is compared with ``texts``. Raises SkelfewError: no f_v, no class texts, or another data
    set.
    """
    cache = open_caches(InputConfig(cache=str(place)))[0]
    about, of = cache.attrs.get("teacher"), cache.attrs.get("dataset")
    teacher = about if isinstance(about, dict) else {}
    if of != manifest.name:
        raise SkelfewError(f"{cache.path}: a cache of {of}, but {manifest.name} is scored")
    if "f_v" not in cache.representations:
        raise SkelfewError(
            f"{cache.path}: its teacher saw no video, and a text is the same for all samples of a "
            "class; only a teacher that sees has features to score"
        )
    known = cache.class_texts("unit")
    if texts and not known:
        raise SkelfewError(f"{cache.path}: has no class texts, which --shots 0 needs")

    def features(ids: Sequence[str], output: str = "pooled") -> Tensor:
        if output != "pooled":
            raise SkelfewError(f"{cache.path}: one vector a sample, no {output}")
        views = torch.from_numpy(cache.targets(ids, "f_v", "unit"))
        return views.mean(dim=1)

    notes = ["the teacher's own features of the videos: what a skeleton can learn from it at most"]
    if teacher.get("trained") is False:
        notes.append("the teacher is UNTRAINED: its features are random")
    return Subject(
        TEACHER,
        features,
        manifest,
        store,
        about={
            "cache": str(cache.path),
            "metadata": {"teacher": teacher},
            "texts": {"texts": str(cache.path)},
        },
        notes=tuple(notes),
        texts=lambda classes: torch.from_numpy(np.stack([known[c] for c in classes])),
    )


def _stage(run: Run) -> str:
    """Return the last stage of a run that has a bridge."""
    run.check_finished()
    config = run.config()
    for stage in reversed(config.stages):
        if bridge_path(run.path, stage).is_file():
            return stage
    why = f"it was trained by {', '.join(config.stages)}, without a teacher"
    if config.teacher_stages:
        why = (
            f"{bridge_path(run.path, config.teacher_stages[-1]).name} is not there, it was removed"
        )
    raise SkelfewError(
        f"{run.path}: has no projector, so its skeletons cannot be compared with texts ({why}); "
        "train with --cache CACHE and a stage that learns from it, or classify, or use --shots 1"
    )


def _class_texts(
    run: Run, bridge: Bridge, texts: str | Path | None, manifest: Manifest
) -> tuple[Path, dict[int, np.ndarray]]:
    """Return the cache that is read, and the text of every class as the bridge takes it."""
    recorded = run.recorded().inputs
    for cached in () if texts else (recorded.cache, *recorded.more_caches):
        checked(cached, run.path, "inputs.cache", "--texts CACHE")
    place = texts or recorded.cache
    if place is None or (texts is None and not Path(place).exists()):
        raise SkelfewError(
            f"{run.path}: its teacher cache is gone ({place}); say with --texts where it is, or "
            "name another cache of the same teacher"
        )
    cache = TeacherCache.open(texts) if texts else join(open_caches(recorded), recorded.join)
    found = cache.class_texts(bridge.about["target_form"])
    if not found:
        raise SkelfewError(
            f"{cache.path}: has no class texts (array class_text), which zero-shot needs; extract "
            "it again, import it with --class-text, or name a cache of this teacher with --texts"
        )
    if cache.attrs.get("dataset") != manifest.name:
        raise SkelfewError(
            f"{cache.path}: texts of the classes of {cache.attrs.get('dataset')}, but "
            f"{manifest.name} is scored; name its cache with --texts"
        )
    _check_teacher(cache, bridge)
    return cache.path, found


def _check_teacher(cache: TeacherCache, bridge: Bridge) -> None:
    """Raise SkelfewError if texts are of another space than the bridge."""
    if cache.dim != bridge.about["width"]:
        raise SkelfewError(
            f"{cache.path}: texts of width {cache.dim}, but the run learned from features of width "
            f"{bridge.about['width']}; take a cache of its teacher"
        )

    def marks(teacher: object) -> Document:
        about = teacher if isinstance(teacher, dict) else {}
        return {k: about[k] for k in ("weights_sha256",) if about.get(k) is not None}

    before, now = marks(bridge.about.get("teacher")), marks(cache.attrs.get("teacher"))
    for key, was, value in differences(before, now) if before and now else ():
        raise SkelfewError(
            f"{cache.path}: texts of another teacher than the run's ({key} was {was}, is {value}); "
            "their spaces have nothing in common"
        )
