"""Settings that depend on the inputs and the machine: filled in before a run starts."""

import importlib.util
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from skelfew.config import TrainConfig
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.protocols.files import portable
from skelfew.errors import SkelfewError
from skelfew.fewshot import build_head
from skelfew.runs.inputs import Inputs
from skelfew.training.base_samples import base_samples

_MOST_WAYS = 20


def resolve(config: TrainConfig, inputs: Inputs) -> TrainConfig:
    """Return ``config`` with everything filled in that depends on inputs and machine."""
    if config.teacher_stages and inputs.cache is None:
        raise SkelfewError(
            f"the {config.teacher_stages[0]} stage needs a teacher cache: give --cache, or "
            "--stages episodic"
        )
    build_head(config.episodic.head, config.episodic.head_settings)  # raises if it cannot be
    pipeline = pipeline_of(config, inputs)
    bodies = config.data.bodies or min(2, int(inputs.store.bodies.max()))
    return replace(
        config,
        inputs=replace(inputs.locations, init=_absolute(config.inputs.init)),
        data=replace(
            config.data,
            frames=pipeline.length,
            missing_body=pipeline.missing_body,
            bodies=bodies,
        ),
        encoder=config.encoder.checked(),
        of_stage={
            **config.of_stage,
            **{
                stage: _with_representation(config, stage, inputs)
                for stage in config.teacher_stages
            },
            "episodic": replace(config.episodic, ways=_ways(config, inputs)),
        },
        protocol=portable(inputs.protocol.path),
        split=inputs.protocol.split or None,
        device=pick_device(config.device),
        threads=config.threads or torch.get_num_threads(),
    )


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


def pipeline_of(config: TrainConfig, inputs: Inputs) -> Pipeline:
    """Return how skeletons become network input in this run."""
    return Pipeline.for_data(
        inputs.store.preprocessing,
        inputs.dataset,
        coordinates=inputs.store.coordinates,
        length=config.data.frames,
        missing_body=config.data.missing_body,
        stream=config.data.stream,
        kind=config.data.kind,
        root=config.data.root,
        facing=config.data.facing,
        size=config.data.size,
    )


def _with_representation(config: TrainConfig, stage: str, inputs: Inputs) -> Any:
    """Return a stage's settings with what is asked for if the cache has it; ``auto`` resolved."""
    settings, cache = getattr(config, stage), inputs.cache
    assert cache is not None
    asked = settings.representation
    if asked == "auto":
        return replace(settings, representation=cache.representations[0])
    if asked not in cache.representations:
        raise SkelfewError(
            f"{cache.path}: no representation {asked}, because its teacher saw no video; there is "
            f"{', '.join(cache.representations)} (or leave --representation out)"
        )
    return settings


def _ways(config: TrainConfig, inputs: Inputs) -> int:
    """Return N of the training episodes: as asked, else as many as novel classes (20 at most)."""
    each = config.episodic.shots + config.episodic.queries
    counts = Counter(inputs.manifest[i].class_id for i in base_samples(config, inputs))
    large = sum(count >= each for count in counts.values())
    wanted = config.episodic.ways or min(_MOST_WAYS, len(inputs.protocol.novel), large)
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


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())
