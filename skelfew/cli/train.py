"""skelfew-train: skeletons against cached teacher features, then few-shot episodes."""

import sys
from pathlib import Path
from typing import Any, get_args

import click

from skelfew.cli.common import INTERRUPTED, guarded, log, say, say_json
from skelfew.cli.options import CONTEXT, PATH, data_sets, flag, offering, option, pairs, trusting
from skelfew.config import (
    PRESETS,
    DataConfig,
    EncoderConfig,
    InputConfig,
    OptimizerConfig,
    TeacherConfig,
    TrainConfig,
    stage_settings,
)
from skelfew.config import override as overridden
from skelfew.config import preset as preset_called
from skelfew.config.stages import WidthAlign
from skelfew.encoders import ENCODERS
from skelfew.errors import SkelfewError
from skelfew.fewshot import HEADS
from skelfew.fields import hints_of
from skelfew.io.files import Document
from skelfew.training.stages import STAGES

_KEYS: dict[str, str] = {}  # of options: the dotted names of their settings
_HEADINGS = {  # by the option that follows
    "cache": "Data",
    "preset": "Plan",
    "encoder": "Encoder",
    "epochs": "Transfer and other stages before the episodes",
    "episodes": "Episodic stage",
    "run": "Run",
    "version": "Other",
}
# Where a setting is declared, by what precedes the last part of its name. Those of the episodes and
# of single stages are loaded with torch, so their options say themselves what they take.
_DECLARED = {
    "": TrainConfig, "inputs.": InputConfig, "encoder.": EncoderConfig, "data.": DataConfig,
    ".": TeacherConfig, ".optimizer.": OptimizerConfig,
}  # fmt: skip


class GroupedCommand(click.Command):
    """Shows its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        heading = ""
        for parameter in self.get_params(ctx):
            heading = _HEADINGS.get(str(parameter.name)) or heading
            sections.setdefault(heading, []).extend(filter(None, [parameter.get_help_record(ctx)]))
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def setting(flag: str, key: str, text: str, **attributes: Any) -> Any:
    """Return the option of a setting, None if absent, that takes what its field is declared to.

    Args:
        key: The setting's dotted name; ".lr" and the like go to all stages before the episodes, as
            far as they have such a setting.
    """
    _KEYS[flag.split("/")[0].removeprefix("--").replace("-", "_")] = key
    field = key.rpartition(".")[2]
    holder = _DECLARED.get(key.removesuffix(field))
    if holder is not None and "/" not in flag and (kind := hints_of(holder).get(field)):
        own = click.Choice(kind.choices) if kind.choices else kind.type
        attributes.setdefault("type", own if own in (int, float) or kind.choices else None)
    return option(flag, text, default=None, **attributes)


@click.command(cls=GroupedCommand, context_settings=CONTEXT)
@setting(
    "--cache",
    "inputs.cache",
    "Teacher cache: folder, zip, https://, s3:// or ssh://; finds manifest and skeletons. "
    "Several of them are several teachers of the same samples.",
    metavar="ZARR|ZIP|URL",
    multiple=True,
)
@setting(
    "--join",
    "inputs.join",
    "What several caches make of a target, each scaled to length one [concat].",
)
@setting(
    "--match",
    "inputs.match",
    "How the cache must fit: by the manifest's hash, or by sample IDs and classes [manifest].",
)
@setting(
    "--rename-ids",
    "inputs.rename_ids",
    "Rename the cache's sample IDs, e.g. '_rgb$='; an error about IDs proposes a rule.",
    metavar="PATTERN=TEXT",
)
@setting(
    "--dataset",
    "inputs.dataset",
    "Data set, where there is no cache.",
    metavar="NAME",
    shell_complete=offering(data_sets),
)
@setting(
    "--manifest", "inputs.manifest", "Manifest, if it is not manifests/NAME.csv.", metavar="CSV"
)
@setting("--store", "inputs.store", "Skeleton store, if it is not data/NAME.h5.", metavar="H5")
@setting("--protocol", "protocol", "Few-shot protocol [the data set's own].", metavar="NAME|FILE")
@setting("--split", "split", "Which split of a protocol with several [the first].", metavar="K")
@setting(
    "--train-on-validation/--hold-out-validation",
    "train_on_validation",
    "Train on the protocol's validation classes too [hold out].",
)
@option(
    "--preset",
    "'laptop' takes seconds to minutes, 'paper' has the numbers as printed [recommended; with "
    "--config the file's].",
    choices=list(PRESETS),
)
@setting(
    "--stages",
    "stages",
    f"One or more of {', '.join(STAGES)}, in this order [transfer,episodic; without cache "
    "episodic].",
    metavar="A,B",
    shell_complete=offering(lambda: STAGES),
)
@setting(
    "--init", "inputs.init", "Start from an encoder.safetensors or a public .pt.", metavar="ENCODER"
)
@setting("--select", "select", "Which epoch of a stage to keep [last].")
@setting("--seed", "seed", "Of everything random [0].")
@setting(
    "--encoder",
    "encoder.name",
    f"One of {', '.join(ENCODERS)} [agcn; ctrgcn costs half]. Settings of its own: --set "
    "encoder.KEY=VALUE.",
    metavar="NAME",
    shell_complete=offering(lambda: ENCODERS),
)
@setting("--width", "encoder.width", "Factor on its channels; 0.25 suits a laptop [1].")
@setting("--body-pool", "encoder.body_pool", "Over bodies [mean].")
@setting("--stream", "data.stream", "What of the joints [joint].")
@setting("--frames", "data.frames", "Frames after resampling [64; NW-UCLA 52].")
@setting(
    "--missing-body",
    "data.missing_body",
    "What fills the slot of an absent second body [duplicate].",
)
@setting("--epochs", ".epochs", "[100; aimclr 300, traditional 65]")
@setting("--batch", ".batch", "[128; traditional 64]")
@setting("--optimizer", ".optimizer.name", "adam has L2 decay [adamw].")
@setting("--lr", ".optimizer.lr", "Peak learning rate [0.001; aimclr, traditional 0.1].")
@setting(
    "--representation",
    ".representation",
    "Which teacher features are the target [f_v+f_t; f_t where the teacher saw no video].",
)
@setting("--target-form", ".target_form", "Scale f_v and f_t to length one before adding? [unit]")
@setting("--width-align", ".width_align", "Encoder to teacher [pad].", choices=get_args(WidthAlign))
@setting(
    "--decay",
    ".decay",
    "Of the target's moving average, lambda [1: it stays; skeleton_byol 0.996, aimclr 0.999].",
    type=float,
)
@setting("--predictor/--no-predictor", ".predictor", "BYOL's predictor [with].")
@setting("--episodes", "episodic.episodes", "In all [10000].", type=int)
@setting("--ways", "episodic.ways", "Classes [as many as novel ones, 20 at most].", type=int)
@setting("--shots", "episodic.shots", "Exemplars per class [1].", type=int)
@setting("--queries", "episodic.queries", "Per class [5].", type=int)
@option("--run", "Folder of this run, must be new.", type=PATH)
@option("--name", "Name of the folder below runs/ [DATASET-DATE-TIME].")
@option("--resume", "Go on with a run.", metavar="RUN", type=PATH)
@flag(
    "--resume-or-start", "With --run or --name: go on if it is there, do nothing if it is finished."
)
@option(
    "--set",
    "settings",
    "Any other value of config.json, e.g. episodic.optimizer.lr=0.01, or episodic.head= "
    f"one of {', '.join(HEADS)}.",
    metavar="KEY=VALUE",
    multiple=True,
)
@option(
    "--config",
    "config_file",
    "Settings of a run's config.json, or of a TOML file with the same names; options win.",
    metavar="FILE",
    type=PATH,
)
@option(
    "--log",
    "tracker",
    "Report each epoch there too; needs skelfew[NAME].",
    choices=["tensorboard", "wandb", "mlflow"],
)
@trusting
@setting("--device", "device", "cpu, cuda, cuda:1 [cuda if there is one].")
@setting("--threads", "threads", "Processor threads.")
@setting("--precision", "precision", "[float32]")
@setting("--compile/--no-compile", "compile", "Compile the encoder: slow to start, for GPUs [not].")
@flag("--json", "Print one JSON document about the finished run.")
@guarded
def main(
    preset: str | None,
    run: Path | None,
    name: str | None,
    resume: Path | None,
    resume_or_start: bool,
    settings: tuple[str, ...],
    config_file: Path | None,
    tracker: str | None,
    json: bool,
    **options: Any,
) -> int:
    """Train a skeleton encoder for few-shot recognition.

    \b
    skelfew-train --cache cache/ntu120.zarr
    skelfew-train --cache cache/demo.zarr --encoder ctrgcn --width 0.25 --epochs 30 --episodes 400
    skelfew-train --cache https://lab.example.org/ntu120.zarr.zip
    skelfew-train --dataset nw-ucla --stages episodic --split 3
    skelfew-train --resume runs/ntu120-20261124-101500

    The run's folder is printed at the end and is what skelfew-eval reads. Ctrl-C saves the state.
    """
    caches = options.pop("cache")
    given = {k: v for k, v in options.items() if v is not None}
    if caches:
        given |= {"cache": caches[0], **({"more_caches": caches[1:]} if caches[1:] else {})}
    for cache in caches:
        if "://" not in cache and not Path(cache).exists():
            raise SkelfewError(
                f"{cache}: no such cache; skelfew-extract makes one, skelfew-cache fetches one, "
                "and --dataset NAME --stages episodic trains without"
            )
    if options["join"] is not None and len(caches) < 2:
        raise click.UsageError("--join is for several --cache")
    if resume is not None:
        extra = sorted(set(given) - {"device", "threads"}) + ["set"] * bool(settings)
        extra += ["config"] * bool(config_file) + ["preset"] * bool(preset)
        if extra or run or name:
            named = f"--{extra[0].replace('_', '-')}" if extra else "--run or --name"
            raise click.UsageError(
                f"--resume goes on with the run's own settings; leave {named} out"
            )
    elif config_file is None and not {"cache", "dataset", "manifest"} & set(given):
        raise click.UsageError(
            "give --cache cache/NAME.zarr, or --dataset NAME where there is none"
        )
    if run is not None and name is not None:
        raise click.UsageError("--run and --name both name the folder; give one")
    folder = Path("runs") / name if name else run
    if resume_or_start and folder is None:
        raise click.UsageError("--resume-or-start needs --run or --name, to know which run")
    start: str | TrainConfig = preset or "recommended"
    if config_file is not None:
        from skelfew.runs.folder import read_config

        start = read_config(config_file, preset)
    from skelfew.training.distributed import joined
    from skelfew.training.loop import Interrupted
    from skelfew.training.run import resume as resume_run
    from skelfew.training.run import train
    from skelfew.training.tracking import tracker as tracking

    callback = tracking(tracker) if tracker else None
    try:
        with joined() as world:
            if resume_or_start and folder is not None and world.broadcast(folder.exists()):
                check_same(folder, configure(start, given, settings))
                resume = folder
            if resume is not None:
                folder = resume_run(resume, given.get("device"), given.get("threads"), callback)
            else:
                config = configure(start, given, settings)
                folder = train(config, run_path=folder, callback=callback)
    except Interrupted as stopped:
        log(f"interrupted and saved; go on with: skelfew-train --resume {stopped.args[0]}")
        return INTERRUPTED
    if world.is_main_process:
        report(folder, json)
    return 0


def configure(start: str | TrainConfig, given: Document, settings: tuple[str, ...]) -> TrainConfig:
    """Return the configuration that the command line asks for, from a preset or a file's."""
    config = preset_called(start) if isinstance(start, str) else start
    if isinstance(start, str) and config.teacher_stages and not {"cache", "stages"} & set(given):
        given = {**given, "stages": "episodic"}
    if "more_caches" in given:
        config = overridden(config, "inputs.more_caches", given["more_caches"])
    for name, key in _KEYS.items():
        if name in given and not key.startswith("."):
            config = overridden(config, key, given[name])
    for name, key in _KEYS.items():
        if name not in given or not key.startswith("."):
            continue
        field = key.split(".")[1]
        having = [s for s in STAGES if s != "episodic" and hasattr(stage_settings(s), field)]
        stages = [s for s in config.stages if s in having]
        if not stages:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for the stages {', '.join(having)}, "
                "of which this run has none; episodic has --episodes and "
                "--set episodic.optimizer.lr=..."
            )
        for stage in stages:
            config = overridden(config, f"{stage}{key}", given[name])
    for key, text in pairs("--set", settings).items():
        config = overridden(config, key, text)
    return config


def check_same(folder: Path, config: TrainConfig) -> None:
    """Raise SkelfewError if the run in ``folder`` was started with other settings."""
    from skelfew.runs.folder import Run

    old, new = Run.open(folder).config().flat(), config.flat()
    for key, value in new.items():
        # A run has file names made absolute and blanks filled in; device and threads may differ.
        if key.startswith(("inputs.", "protocol", "device", "threads")) or value in (None, "auto"):
            continue
        if key in old and old[key] != value:
            raise SkelfewError(
                f"{folder}: this run has {key} = {old[key]}, but {value} is asked for; choose "
                f"another folder, or go on as it is with --resume {folder}"
            )


def report(folder: Path, as_json: bool) -> None:
    """Print the folder, or with ``as_json`` what it holds."""
    if not as_json:
        say(folder)
        return

    from skelfew.runs.folder import Run

    run = Run.open(folder)
    last = {row["stage"]: row for row in run.rows()}
    say_json({"run": str(folder), "encoder": str(run.encoder), "stages": last})


if __name__ == "__main__":
    sys.exit(main())
