"""The resolved run: settings, inputs and what follows from both, before anything is trained."""

import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from skelfew.cache import TeacherCache
from skelfew.config import TrainConfig
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.protocols.files import portable
from skelfew.errors import SkelfewError
from skelfew.fewshot import build_head
from skelfew.fewshot.head import Head
from skelfew.runs.inputs import Inputs, find_inputs
from skelfew.training.base_samples import base_samples
from skelfew.training.distributed import current
from skelfew.training.initial import classes_seen_by

MOST_WAYS = 20


@dataclass(frozen=True)
class ResolvedRun:
    """All that a run is made from, found and checked once; every later step takes it from here."""

    config: TrainConfig  # settings with everything filled in, as config.json records them
    inputs: Inputs  # manifest, skeletons, protocol, and the cache if one is given
    # IDs of the base samples that ``data.*`` asks for, in the manifest's order
    samples: tuple[str, ...]
    pipeline: Pipeline
    head: Head  # what the episodic stage trains, with weights of no meaning
    earlier: tuple[int, ...]  # base classes that the initial encoder was trained on

    @property
    def teacher(self) -> TeacherCache | None:
        """The cache that a stage learns from, None if no stage does."""
        return self.inputs.cache if self.config.teacher_stages else None

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return torch.device(self.config.device)


def open_inputs(config: TrainConfig) -> Inputs:
    """Open the manifest, skeletons, protocol and cache of a run, see ``find_inputs``."""
    return find_inputs(config.inputs, config.protocol, config.split, not config.train_on_validation)


def resolve(config: TrainConfig, inputs: Inputs) -> ResolvedRun:
    """Fill in all that depends on inputs and machine; SkelfewError if something misfits."""
    cache, data, episodic = inputs.cache, config.data, config.episodic
    if config.teacher_stages and cache is None:
        raise SkelfewError(
            f"the {config.teacher_stages[0]} stage needs a teacher cache: give --cache, or "
            "--stages episodic"
        )
    head = build_head(episodic.head, episodic.head_settings)
    pipeline = Pipeline.for_data(
        inputs.store.preprocessing,
        inputs.dataset,
        coordinates=inputs.store.coordinates,
        length=data.frames,
        missing_body=data.missing_body,
        stream=data.stream,
        kind=data.kind,
        root=data.root,
        facing=data.facing,
        size=data.size,
    )
    samples = tuple(base_samples(data, inputs))
    init = config.inputs.init and str(Path(config.inputs.init).resolve())
    of_stage = {**config.of_stage}
    if cache is not None:
        for stage in config.teacher_stages:
            of_stage[stage] = _with_representation(getattr(config, stage), cache)
    of_stage["episodic"] = replace(episodic, ways=_ways(config, inputs, samples))
    config = replace(
        config,
        inputs=replace(inputs.locations, init=init),
        data=replace(
            data,
            frames=pipeline.length,
            missing_body=pipeline.missing_body,
            bodies=data.bodies or min(2, int(inputs.store.bodies.max())),
        ),
        encoder=config.encoder.checked(),
        of_stage=of_stage,
        protocol=portable(inputs.protocol.path),
        split=inputs.protocol.split or None,
        device=current().device(pick_device(config.device)),
        threads=config.threads or torch.get_num_threads(),
    )
    earlier = tuple(classes_seen_by(init, inputs)) if init else ()
    return ResolvedRun(config, inputs, samples, pipeline, head, earlier)


def pick_device(name: str) -> str:
    """Return the device to use for ``auto``, ``cpu``, ``cuda``, ``cuda:1``; raise if absent."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type != "cpu":
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise SkelfewError(f"device {name!r} cannot be used ({first}); --device cpu can") from None
    return name


def check_compiler(device: str) -> None:
    """Raise SkelfewError if torch.compile has no compiler for a device."""
    if torch.device(device).type == "cpu":
        what = "a C++ compiler (g++ or clang++)"
        names = [os.environ.get("CXX") or "g++", "clang++"]
        found = any(shutil.which(name) for name in names)
    else:
        what, found = "the package triton", importlib.util.find_spec("triton") is not None
    if not found:
        raise SkelfewError(f"--compile needs {what}, and there is none; leave --compile out")


def _with_representation(settings: Any, cache: TeacherCache) -> Any:
    """Return a stage's settings with what is asked for if the cache has it; ``auto`` resolved."""
    asked = settings.representation
    if asked == "auto":
        return replace(settings, representation=cache.representations[0])
    if asked not in cache.representations:
        raise SkelfewError(
            f"{cache.path}: no representation {asked}, because its teacher saw no video; there is "
            f"{', '.join(cache.representations)} (or leave --representation out)"
        )
    return settings


def _ways(config: TrainConfig, inputs: Inputs, samples: Sequence[str]) -> int:
    """Return N of the training episodes: as asked, else as many as novel classes (20 at most)."""
    each = config.episodic.shots + config.episodic.queries
    counts = Counter(inputs.manifest[i].class_id for i in samples)
    large = sum(count >= each for count in counts.values())
    wanted = config.episodic.ways or min(MOST_WAYS, len(inputs.protocol.novel), large)
    if "episodic" in config.stages and not 2 <= wanted <= large:
        if large < 2:
            raise SkelfewError(
                f"{large} of {len(counts)} base classes have {each} samples (shots and queries), "
                "and an episode needs two such classes; use fewer --queries, or prepare more"
            )
        if wanted < 2:
            raise SkelfewError(f"--ways {wanted}: an episode needs at least 2 classes")
        raise SkelfewError(
            f"{wanted}-way episodes with {each} samples a class cannot be drawn: {large} of "
            f"{len(counts)} base classes have that many samples; use fewer --ways or --queries"
        )
    return max(wanted, 1)
