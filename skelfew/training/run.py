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
from skelfew.fewshot.head import Head
from skelfew.fewshot.trained import save_head
from skelfew.io.files import Document
from skelfew.io.writing import write_json
from skelfew.runs.cache_fit import about, changes
from skelfew.runs.folder import Callback, Run, read_json
from skelfew.runs.inputs import InputError, Inputs
from skelfew.runs.recorded import check_places
from skelfew.training.checkpoint import load_scalars
from skelfew.training.data import TrainingData, admit
from skelfew.training.distributed import check_supported, current, share
from skelfew.training.initial import other_teacher
from skelfew.training.lineage import describe
from skelfew.training.loop import Interrupted, StageLoop, stop_on_signals
from skelfew.training.precision import fit_notes
from skelfew.training.resolve import ResolvedRun, check_compiler, open_inputs, resolve
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
    resolved = resolve(config, open_inputs(config))
    start = prepare(resolved)
    run = replace(_new_folder(resolved, run_folder, run_path), callback=callback)
    run_stages(run, resolved, start)
    return run.path


def _new_folder(resolved: ResolvedRun, folder: str | Path, path: str | Path | None) -> Run:
    """Make the run's folder, with settings and inputs in it; all processes return the same."""
    world = current()
    if world.is_main_process:
        run = Run.create(resolved.inputs.dataset, folder, path)
        write_json(run.path / "inputs.json", resolved.inputs.describe())
        run.write_config(resolved.config)
    found = world.broadcast(str(run.path) if world.is_main_process else None)
    return run if world.is_main_process else Run(Path(found), writes=False)


def resume(
    path: str | Path,
    device: str | None = None,
    threads: int | None = None,
    callback: Callback | None = None,
) -> Path:
    """Go on with a run that was stopped, to the numbers it would have had without the stop.

    Args:
        device: Another device than before; the numbers then agree to rounding only.
        threads: Another number of threads, likewise.
        callback: As in ``train``.

    Raises:
        SkelfewError: No such run, or its inputs have changed since.
    """
    world = current()
    run = replace(Run.open(path), writes=world.is_main_process, callback=callback)
    config = run.recorded()
    check_places(config.inputs, config.protocol, run.path / "config.json")
    if world.broadcast(run.finished):
        run.log(f"{run.path}: finished already")
        return run.path
    inputs = open_inputs(config)
    _check_unchanged(run, inputs)
    config = replace(config, device=device or config.device, threads=threads or config.threads)
    resolved = resolve(config, inputs)
    run_stages(run, resolved, prepare(resolved))
    return run.path


def _check_unchanged(run: Run, inputs: Inputs) -> None:
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


@dataclass(frozen=True)
class Start:
    """The state that a run begins with, all of it in memory."""

    data: TrainingData
    validation: Validation | None
    encoder: SkeletonEncoder
    notes: tuple[str, ...]


def prepare(resolved: ResolvedRun) -> Start:
    """Read the samples that take part and build the encoder; SkelfewError on a misfit."""
    config, inputs = resolved.config, resolved.inputs
    protocol = inputs.protocol
    torch.set_num_threads(config.threads or 1)
    ids, notes = _taking_part(resolved)

    def read(ids: Sequence[str], allowed: Sequence[int]) -> TrainingData:
        bodies = config.data.bodies or 1
        return admit(ids, allowed, inputs, resolved.pipeline, bodies, resolved.device)

    data = read(ids, protocol.base)
    if "episodic" in config.stages:
        notes += _head_notes(resolved.head, inputs.cache, data)
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
    return Start(data, validation, _encoder(resolved, data), tuple(notes))


def _taking_part(resolved: ResolvedRun) -> tuple[Sequence[str], list[str]]:
    """Return the base samples whose teacher features are there, and what the user should know."""
    config, inputs, ids = resolved.config, resolved.inputs, resolved.samples
    notes = []
    if note := undeclared(inputs.store.preprocessing, inputs.dataset):
        notes.append(note)
    for name in config.stages:
        if unverified := STAGES.load(name).unverified:
            notes.append(f"stage {name} is UNVERIFIED: {unverified}")
    whole = len(inputs.manifest.subset(inputs.protocol.base))
    if len(ids) < whole:
        notes.append(f"{len(ids)} of {whole} base samples take part, as data.* asks")
    cache, init = resolved.teacher, config.inputs.init
    if cache is None:
        return ids, notes
    notes.append(about(cache))
    if init and (changed := other_teacher(init, cache)):
        notes.append(f"{init} learned from another teacher: {changed}")
    failed = set(cache.failed)
    kept = [i for i in ids if i not in failed]
    if len(kept) < len(ids):
        notes.append(
            f"{len(ids) - len(kept)} of {len(ids)} base samples are left out: the teacher "
            f"failed on them (see {cache.path.stem}.failures.csv)"
        )
    if cache.attrs.get("teacher", {}).get("trained") is False:
        notes.append("the teacher is UNTRAINED: its features are random")
    if cache.video is None:
        notes.append("the cache holds no f_v, its teacher saw no video: the target is f_t alone")
    cache.rows(kept)  # raises if one is pending
    return kept, notes


def _head_notes(head: Head, cache: TeacherCache | None, data: TrainingData) -> list[str]:
    """Return what to say of what a head must know of the classes; raise if it is not there."""
    known = head.knowledge(cache)
    if known is None or cache is None:
        return []
    if absent := [c for c in data.classes if c not in known]:
        raise SkelfewError(f"{cache.path}: has no text of class {absent[0]}, which is trained")
    notes = [f"relevance of parts of the body from {cache.path}: {about(cache)}"]
    if cache.attrs.get("teacher", {}).get("trained") is False:
        notes.append("what read the texts is UNTRAINED: relevances are random")
    return notes


def _encoder(resolved: ResolvedRun, data: TrainingData) -> SkeletonEncoder:
    """Return a new encoder, with the weights of ``inputs.init`` if that is given."""
    config, cache = resolved.config, resolved.inputs.cache
    feature_dim = None
    aligned = {getattr(getattr(config, s), "width_align", "") for s in config.teacher_stages}
    if "encoder_512" in aligned and cache is not None:
        feature_dim = cache.dim
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
        load_initial(config.inputs.init, encoder)
    encoder = encoder.to(resolved.device)
    if config.compile:
        check_compiler(config.device)
        encoder.compile()
    return encoder


def run_stages(run: Run, resolved: ResolvedRun, start: Start) -> None:
    """Train stage after stage, from a checkpoint if there is one, and write what each leaves.

    Raises:
        Interrupted: After a signal; the state is saved.
    """
    config, world, validation = resolved.config, current(), start.validation
    run.write_environment()
    run.log(
        f"{run.path}: {config.preset} preset, stages {', '.join(config.stages)}, "
        f"{len(start.data)} samples of {len(start.data.classes)} base classes"
        + (f", {len(validation.data.classes)} validation classes" if validation else "")
        + f", on {config.device}"
    )
    slower = fit_notes(start.encoder, config.precision, config.device, config.threads or 1)
    for note in (*start.notes, *slower):
        run.log(f"note: {note}")
    if world.size > 1:
        check_supported(config.stages, start.encoder, config.episodic.head, resolved.head.reads)
        share(start.encoder, world)
        run.log(f"{world.size} processes, each with its slice of every batch")
    with stop_on_signals() as stop:
        try:
            fusion = _fusion(run, resolved, start)
            first, again = 0, world.broadcast(run.checkpoint.is_file())
            if again:
                first = int(load_scalars(run.checkpoint)["position"]["stage"])
            else:
                run.keep_rows(0)
            for index in range(first, len(config.stages)):
                stage = make_stage(config.stages[index], resolved, start)
                loop = StageLoop(
                    run, stage, index, stop, validation, world,
                    config.select, config.precision, config.checkpoint_minutes,
                )  # fmt: skip
                if again and index == first:
                    loop.restore()
                loop.run()
                lineage = describe(resolved, run.name, config.stages[: index + 1], fusion)
                _save(run, stage, resolved, start.encoder, lineage)
            if run.writes:
                run.check()
                save_encoder(run.encoder, start.encoder, lineage)
            world.barrier()
        except Interrupted:
            run.log("interrupted; state saved", show=False)
            raise Interrupted(str(run.path)) from None
    run.log(f"{run.path}: finished")


def _fusion(run: Run, resolved: ResolvedRun, start: Start) -> float:
    """Return the share of the encoder where clips are compared: as set, else as measured."""
    fusion = resolved.config.fusion
    if fusion is None:
        fusion = encoders_share(start.data, resolved.inputs.store, resolved.config.seed)
        run.log(f"fusion: the encoder has the share {fusion:.3f}, aligned joints have the rest")
    return fusion


def make_stage(name: str, resolved: ResolvedRun, start: Start) -> Stage:
    """Return a stage of the run, with teacher features for one that learns from them."""
    config, data = resolved.config, start.data
    settings = getattr(config, name)
    if name in config.teacher_stages:
        data = data.with_targets(settings.representation, settings.target_form)
    return STAGES.load(name)(start.encoder, data, settings, config.seed)


def _save(
    run: Run,
    stage: Stage,
    resolved: ResolvedRun,
    encoder: SkeletonEncoder,
    lineage: Document,
) -> None:
    """Write what a stage leaves: the encoder, a head, the bridge to the teacher's space."""
    if not run.writes:
        return
    save_encoder(run.path / f"encoder.{stage.name}.safetensors", encoder, lineage)
    if stage.scored_by is not None:
        origin = {"run": run.name, "dataset": resolved.inputs.dataset}
        save_head(run.head, stage.scored_by, encoder.feature_dim, origin)
    if isinstance(stage, Bridging) and resolved.inputs.cache is not None:
        bridge = bridge_of(stage, resolved.inputs.cache, getattr(resolved.config, stage.name))
        if bridge is not None:
            save_bridge(bridge_path(run.path, stage.name), bridge)
