"""Training runs from a configuration to a run folder.

::

    from skelfew.config import override, preset
    from skelfew.training.run import train

    config = override(preset("recommended"), "inputs.cache", "cache/ntu120.zarr")
    folder = train(config)  # runs/ntu120-20261124-101500, with encoder.safetensors in it

From the shell: skelfew-train.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from skelfew.cache import TeacherCache
from skelfew.config import TrainConfig
from skelfew.data.input.pipeline import undeclared
from skelfew.encoders import build_encoder
from skelfew.encoders.checkpoints import load_initial, save_encoder
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.errors import SkelfewError
from skelfew.fewshot import HEADS, build_head
from skelfew.fewshot.trained import save_head
from skelfew.io.writing import write_json
from skelfew.runs.cache_fit import about, changes
from skelfew.runs.folder import Callback, Run, read_json
from skelfew.runs.inputs import InputError, Inputs, find_inputs
from skelfew.training.base_samples import base_samples
from skelfew.training.checkpoint import load_scalars
from skelfew.training.data import TrainingData, admit
from skelfew.training.distributed import World, current, refuse, share
from skelfew.training.lineage import classes_seen_by, describe, other_teacher
from skelfew.training.loop import Interrupted, StageLoop, StopRequest, stop_on_signals
from skelfew.training.precision import fit_notes
from skelfew.training.resolve import check_compiler, pick_device, pipeline_of, resolve
from skelfew.training.seeding import seeded
from skelfew.training.stages import STAGES
from skelfew.training.stages.base import Stage
from skelfew.training.stages.bridge import Bridging, bridge_of, bridge_path, save_bridge
from skelfew.training.validation import Validation, encoders_share


def train(
    config: TrainConfig,
    run_folder: str | Path = "runs",
    run_path: str | Path | None = None,
    callback: Callback | None = None,
) -> Path:
    """Train an encoder through the stages of ``config``.

    Args:
        config: Settings; what is None there is found or follows from the dataset.
        run_folder: Where the run gets a folder of its own.
        run_path: The folder itself, if it is to have a certain name.
        callback: Gets the run and each epoch's row of metrics, e.g. ``tracker("tensorboard")`` of
            ``skelfew.training.tracking``. In a run of several processes the first one calls it.

    Returns:
        The run folder; ``encoder.safetensors`` in it is the result.

    Raises:
        SkelfewError: Inputs are missing or do not fit, or training went wrong (CollapseError,
            NotFiniteError).
        Interrupted: SIGINT or SIGTERM came; the state is saved, ``resume`` goes on.
    """
    inputs = find_inputs(config)
    world = current()
    config = resolve(config, inputs)
    config = replace(config, device=world.device(config.device))
    torch.set_num_threads(config.threads or 1)
    start = _prepare(config, inputs)
    if world.writes:
        run = Run.create(inputs.dataset, run_folder, run_path)
        write_json(run.path / "inputs.json", inputs.describe())
        run.write_config(config)
    path = world.broadcast(str(run.path) if world.writes else None)
    if not world.writes:
        run = Run(Path(path), writes=False)
    return _execute(replace(run, callback=callback), config, inputs, start)


def resume(
    path: str | Path,
    device: str | None = None,
    threads: int | None = None,
    callback: Callback | None = None,
) -> Path:
    """Go on with a run that was stopped, to the numbers it would have had without the stop.

    Args:
        path: The run folder.
        device: Another device than before; the numbers then agree to rounding only.
        threads: Another number of threads, likewise.
        callback: As in ``train``.

    Raises:
        SkelfewError: No such run, or its inputs have changed since.
    """
    world = current()
    run = replace(Run.open(path), writes=world.writes, callback=callback)
    config = run.config()
    if world.broadcast(run.finished):
        run.log(f"{run.path}: finished already")
        return run.path
    if device is not None:
        config = replace(config, device=pick_device(device))
    if threads is not None:
        config = replace(config, threads=threads)
    config = replace(config, device=world.device(config.device))
    inputs = find_inputs(config)
    before, now = read_json(run.path / "inputs.json"), inputs.describe()
    for key in sorted(set(before) | set(now)):
        for field in ("sha256", "digest", "identity"):
            old, new = before.get(key, {}).get(field), now.get(key, {}).get(field)
            if old != new and (old or field != "identity"):  # earlier versions wrote no identity
                raise InputError(
                    f"{run.path}: the {key} has changed since the run began ({field} {old}, "
                    f"now {new}{changes(before.get(key, {}), now.get(key, {}))}); bring it back, "
                    "or start a new run"
                )
    torch.set_num_threads(config.threads or 1)
    return _execute(run, config, inputs, _prepare(config, inputs))


@dataclass(frozen=True)
class Start:
    """What a run begins with, all of it in memory.

    Attributes:
        data: Base-class samples.
        validation: The validation classes, None if there are none to speak of.
        encoder: Before training.
        cache: Teacher features, None if no stage reads them.
        notes: What the user should know.
    """

    data: TrainingData
    validation: Validation | None
    encoder: SkeletonEncoder
    cache: TeacherCache | None
    notes: tuple[str, ...]


def _prepare(config: TrainConfig, inputs: Inputs) -> Start:
    protocol, notes = inputs.protocol, []
    if note := undeclared(inputs.store.preprocessing, inputs.dataset):
        notes.append(note)
    for name in config.stages:
        if unverified := STAGES.load(name).unverified:
            notes.append(f"stage {name} is UNVERIFIED: {unverified}")
    ids = base_samples(config, inputs)
    whole = len(inputs.manifest.subset(protocol.base))
    if len(ids) < whole:
        notes.append(f"{len(ids)} of {whole} base samples take part, as data.* asks")
    cache = inputs.cache if config.teacher_stages else None
    if cache is not None:
        notes.append(about(cache))
        changed = other_teacher(config.inputs.init, cache) if config.inputs.init else None
        if changed is not None:
            notes.append(f"{config.inputs.init} learned from another teacher: {changed}")
        failed = set(cache.failed)
        kept = [i for i in ids if i not in failed]
        if len(kept) < len(ids):
            notes.append(
                f"{len(ids) - len(kept)} of {len(ids)} base samples are left out: the teacher "
                f"failed on them (see {cache.path.stem}.failures.csv)"
            )
        ids = kept
        if cache.attrs.get("teacher", {}).get("trained") is False:
            notes.append("the teacher is UNTRAINED: its features are random")
        if cache.video is None:
            notes.append(
                "the cache holds no f_v, its teacher saw no video: the target is f_t alone"
            )

        cache.rows(ids)  # none is pending

    def read(ids: Sequence[str], allowed: Sequence[int]) -> TrainingData:
        return admit(
            ids,
            allowed=allowed,
            protocol=protocol,
            manifest=inputs.manifest,
            store=inputs.store,
            pipeline=pipeline_of(config, inputs),
            bodies=config.data.bodies or 1,
            device=torch.device(config.device),
            cache=inputs.cache,
        )

    data = read(ids, protocol.base)
    if "episodic" in config.stages:
        notes += _head_notes(config.episodic.head, inputs.cache, data)
    validation = None
    if protocol.validation:
        held_out = inputs.manifest.subset(protocol.validation).ids
        candidate = Validation(read(held_out, protocol.validation), config.seed)
        validation = candidate if candidate.possible else None
    if config.select == "validation" and validation is None:
        raise SkelfewError(
            f"{protocol.path}: has no validation classes to select by; use --select last"
            + (" or --hold-out-validation" if config.train_on_validation else "")
        )
    encoder = _build(config, inputs, data).to(config.device)
    if config.compile:
        check_compiler(config.device)
        encoder.compile()
    return Start(data, validation, encoder, cache, tuple(notes))


def _head_notes(name: str, cache: TeacherCache | None, data: TrainingData) -> list[str]:
    """Return what to say of what a head must know of the classes; raise if it is not there."""
    known = HEADS.load(name).knowledge(cache)
    if known is None or cache is None:
        return []
    if absent := [c for c in data.classes if c not in known]:
        raise SkelfewError(f"{cache.path}: has no text of class {absent[0]}, which is trained")
    notes = [f"relevance of parts of the body from {cache.path}: {about(cache)}"]
    if cache.attrs.get("teacher", {}).get("trained") is False:
        notes.append("what read the texts is UNTRAINED: relevances are random")
    return notes


def _execute(run: Run, config: TrainConfig, inputs: Inputs, start: Start) -> Path:
    run.write_environment()
    validation = start.validation
    run.log(
        f"{run.path}: {config.preset} preset, stages {', '.join(config.stages)}, "
        f"{len(start.data)} samples of {len(start.data.classes)} base classes"
        + (f", {len(validation.data.classes)} validation classes" if validation else "")
        + f", on {config.device}"
    )
    slower = fit_notes(start.encoder, config.precision, config.device, config.threads or 1)
    for note in (*start.notes, *slower):
        run.log(f"note: {note}")
    world = current()
    if world.size > 1:
        head = build_head(config.episodic.head, config.episodic.head_settings)
        refuse(config.stages, start.encoder, config.episodic.head, head.reads)
        share(start.encoder, world)
        run.log(f"{world.size} processes, each with its slice of every batch")
    with stop_on_signals() as stop:
        try:
            _stages(run, config, inputs, start, stop, world)
            world.barrier()
        except Interrupted:
            run.log("interrupted; state saved", show=False)
            raise Interrupted(str(run.path)) from None
    run.log(f"{run.path}: finished")
    return run.path


def _stages(
    run: Run, config: TrainConfig, inputs: Inputs, start: Start, stop: StopRequest, world: World
) -> None:
    fusion = config.fusion
    if fusion is None:
        fusion = encoders_share(start.data, inputs.store, config.seed)
        run.log(f"fusion: the encoder has the share {fusion:.2f}, aligned joints have the rest")
    first, again = 0, world.broadcast(run.checkpoint.is_file())
    if again:
        first = int(load_scalars(run.checkpoint)["position"]["stage"])
    else:
        run.keep_rows(0)
    for index in range(first, len(config.stages)):
        stage = _stage(config.stages[index], start, config)
        loop = StageLoop(run, config, stage, index, start.data, start.validation, stop, world)
        if again and index == first:
            loop.restore()
        loop.run()
        if not run.writes:
            continue
        about = describe(config, inputs, run, config.stages[: index + 1], fusion)
        save_encoder(run.path / f"encoder.{stage.name}.safetensors", start.encoder, about)
        if stage.scored_by is not None:
            about = {"run": run.name, "dataset": inputs.dataset}
            save_head(run.head, stage.scored_by, start.encoder.feature_dim, about)
        if isinstance(stage, Bridging) and inputs.cache is not None:
            bridge = bridge_of(stage, inputs.cache, getattr(config, stage.name))
            save_bridge(bridge_path(run.path, stage.name), bridge)
    if run.writes:
        save_encoder(
            run.encoder, start.encoder, describe(config, inputs, run, config.stages, fusion)
        )


def _stage(name: str, start: Start, config: TrainConfig) -> Stage:
    settings, data = getattr(config, name), start.data
    if start.cache is not None and name in config.teacher_stages:
        data = data.with_targets(settings.representation, settings.target_form)
    stage: Stage = STAGES.load(name)(start.encoder, data, settings, config.seed)
    return stage


def _build(config: TrainConfig, inputs: Inputs, data: TrainingData) -> SkeletonEncoder:
    """Return a new encoder, with the weights of ``inputs.init`` if that is given."""
    feature_dim = None
    aligned = {getattr(getattr(config, s), "width_align", "") for s in config.teacher_stages}
    if "encoder_512" in aligned and inputs.cache is not None:
        feature_dim = inputs.cache.dim
    with seeded(config.seed, "encoder"):
        encoder = build_encoder(
            config.encoder.name,
            data.bank.layout,
            channels=data.bank.channels,
            bodies=data.bank.bodies,
            width=config.encoder.width,
            body_pool=config.encoder.body_pool,
            feature_dim=feature_dim,
            **config.encoder.own,
        )
    if config.inputs.init is not None:
        classes_seen_by(config.inputs.init, inputs)
        load_initial(config.inputs.init, encoder)
    return encoder
