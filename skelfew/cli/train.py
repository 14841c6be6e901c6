"""skelfew-train: skeletons against cached teacher features, then few-shot episodes."""

import sys
from pathlib import Path
from typing import Any, get_args

import click

from skelfew.cli.common import (
    CONTEXT,
    INTERRUPTED,
    PATH,
    data_sets,
    guarded,
    log,
    offering,
    say,
    say_json,
    trusting,
)
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

# Options by their heading in the help. One that is a setting has its dotted name; ".lr" and the
# like go to all stages before the episodes, as far as they have such a setting.
_OPTIONS: dict[str, dict[str, str]] = {
    "Data": {
        "cache": "inputs.cache",
        "join": "inputs.join",
        "match": "inputs.match",
        "rename_ids": "inputs.rename_ids",
        "dataset": "inputs.dataset",
        "manifest": "inputs.manifest",
        "store": "inputs.store",
        "protocol": "protocol",
        "split": "split",
        "train_on_validation": "train_on_validation",
    },
    "Plan": {
        "preset": "",
        "stages": "stages",
        "init": "inputs.init",
        "select": "select",
        "seed": "seed",
    },
    "Encoder": {
        "encoder": "encoder.name",
        "width": "encoder.width",
        "body_pool": "encoder.body_pool",
        "stream": "data.stream",
        "frames": "data.frames",
        "missing_body": "data.missing_body",
    },
    "Transfer and other stages before the episodes": {
        "epochs": ".epochs",
        "batch": ".batch",
        "optimizer": ".optimizer.name",
        "lr": ".optimizer.lr",
        "representation": ".representation",
        "target_form": ".target_form",
        "width_align": ".width_align",
        "decay": ".decay",
        "predictor": ".predictor",
    },
    "Episodic stage": {
        name: f"episodic.{name}" for name in ("episodes", "ways", "shots", "queries")
    },
    "Run": {
        "run": "",
        "name": "",
        "resume": "",
        "resume_or_start": "",
        "settings": "",
        "config_file": "",
        "tracker": "",
        "trust_run": "",
        "device": "device",
        "threads": "threads",
        "precision": "precision",
        "compile": "compile",
        "json": "",
    },
}
_KEYS = {option: key for group in _OPTIONS.values() for option, key in group.items() if key}
# Where a setting is declared, by what precedes the last dot of its name. Those of the episodes and
# of single stages are loaded with torch, so their options say themselves what they take.
_DECLARED = {
    "": TrainConfig, "inputs": InputConfig, "encoder": EncoderConfig, "data": DataConfig,
    ".": TeacherConfig, ".optimizer": OptimizerConfig,
}  # fmt: skip


class GroupedCommand(click.Command):
    """Shows its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a group, what is in none under "Other"."""
        records = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                records[str(parameter.name)] = record
        for title, names in _OPTIONS.items():
            with formatter.section(title):
                formatter.write_dl([records.pop(name) for name in names if name in records])
        with formatter.section("Other"):
            formatter.write_dl(list(records.values()))


def option(flag: str, **attributes: Any) -> Any:
    """Return a click option, None if absent, that takes what its setting's field is declared to."""
    name = flag.split("/")[0].removeprefix("--").replace("-", "_")
    group, _, field = _KEYS[name].rpartition(".")
    holder = _DECLARED.get(group or ("." if _KEYS[name].startswith(".") else ""))
    if holder is not None and "/" not in flag and (kind := hints_of(holder).get(field)):
        own = click.Choice(kind.choices) if kind.choices else kind.type
        attributes.setdefault("type", own if own in (int, float) or kind.choices else None)
    return click.option(flag, default=None, **attributes)


@click.command(cls=GroupedCommand, context_settings=CONTEXT)
@click.option(
    "--cache",
    metavar="ZARR|ZIP|URL",
    multiple=True,
    help="Teacher cache: folder, zip, https://, s3:// or ssh://; finds manifest and skeletons. "
    "Several of them are several teachers of the same samples.",
)
@option("--join", help="What several caches make of a target, each scaled to length one [concat].")
@option(
    "--match",
    help="How the cache must fit: by the manifest's hash, or by sample IDs and classes [manifest].",
)
@option(
    "--rename-ids",
    metavar="PATTERN=TEXT",
    help="Rename the cache's sample IDs, e.g. '_rgb$='; an error about IDs proposes a rule.",
)
@option(
    "--dataset",
    metavar="NAME",
    shell_complete=offering(data_sets),
    help="Data set, where there is no cache.",
)
@option("--manifest", metavar="CSV", help="Manifest, if it is not manifests/NAME.csv.")
@option("--store", metavar="H5", help="Skeleton store, if it is not data/NAME.h5.")
@option("--protocol", metavar="NAME|FILE", help="Few-shot protocol [the data set's own].")
@option("--split", metavar="K", help="Which split of a protocol with several [the first].")
@option(
    "--train-on-validation/--hold-out-validation",
    help="Train on the protocol's validation classes too [hold out].",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="'laptop' takes seconds to minutes, 'paper' has the numbers as printed [recommended; with "
    "--config the file's].",
)
@option(
    "--stages",
    metavar="A,B",
    shell_complete=offering(lambda: STAGES),
    help=f"One or more of {', '.join(STAGES)}, in this order [transfer,episodic; without cache "
    "episodic].",
)
@option("--init", metavar="ENCODER", help="Start from an encoder.safetensors or a public .pt.")
@option("--select", help="Which epoch of a stage to keep [last].")
@option("--seed", help="Of everything random [0].")
@option(
    "--encoder",
    metavar="NAME",
    shell_complete=offering(lambda: ENCODERS),
    help=f"One of {', '.join(ENCODERS)} [agcn; ctrgcn costs half]. Settings of its own: --set "
    "encoder.KEY=VALUE.",
)
@option("--width", help="Factor on its channels; 0.25 suits a laptop [1].")
@option("--body-pool", help="Over bodies [mean].")
@option("--stream", help="What of the joints [joint].")
@option("--frames", help="Frames after resampling [64; NW-UCLA 52].")
@option("--missing-body", help="What fills the slot of an absent second body [duplicate].")
@option("--epochs", help="[100; aimclr 300, traditional 65]")
@option("--batch", help="[128; traditional 64]")
@option("--optimizer", help="adam has L2 decay [adamw].")
@option("--lr", help="Peak learning rate [0.001; aimclr, traditional 0.1].")
@option(
    "--representation",
    help="Which teacher features are the target [f_v+f_t; f_t where the teacher saw no video].",
)
@option("--target-form", help="Scale f_v and f_t to length one before adding? [unit]")
@option("--width-align", type=click.Choice(get_args(WidthAlign)), help="Encoder to teacher [pad].")
@option(
    "--decay",
    type=float,
    help="Of the target's moving average, lambda [1: it stays; skeleton_byol 0.996, aimclr 0.999].",
)
@option("--predictor/--no-predictor", help="BYOL's predictor [with].")
@option("--episodes", type=int, help="In all [10000].")
@option("--ways", type=int, help="Classes [as many as novel ones, 20 at most].")
@option("--shots", type=int, help="Exemplars per class [1].")
@option("--queries", type=int, help="Per class [5].")
@click.option("--run", type=PATH, help="Folder of this run, must be new.")
@click.option("--name", help="Name of the folder below runs/ [DATASET-DATE-TIME].")
@click.option("--resume", metavar="RUN", type=PATH, help="Go on with a run.")
@click.option(
    "--resume-or-start",
    is_flag=True,
    help="With --run or --name: go on if it is there, do nothing if it is finished.",
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Any other value of config.json, e.g. episodic.optimizer.lr=0.01, or episodic.head= "
    f"one of {', '.join(HEADS)}.",
)
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    type=PATH,
    help="Settings of a run's config.json, or of a TOML file with the same names; options win.",
)
@click.option(
    "--log",
    "tracker",
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    help="Report each epoch there too; needs skelfew[NAME].",
)
@option("--device", help="cpu, cuda, cuda:1 [cuda if there is one].")
@option("--threads", help="Processor threads.")
@option("--precision", help="[float32]")
@option("--compile/--no-compile", help="Compile the encoder: slow to start, for GPUs [not].")
@click.option("--json", is_flag=True, help="Print one JSON document about the finished run.")
@trusting
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
    for option, key in _KEYS.items():
        if option in given and not key.startswith("."):
            config = overridden(config, key, given[option])
    for option, key in _KEYS.items():
        if option not in given or not key.startswith("."):
            continue
        setting = key.split(".")[1]
        having = [s for s in STAGES if s != "episodic" and hasattr(stage_settings(s), setting)]
        stages = [s for s in config.stages if s in having]
        if not stages:
            raise click.UsageError(
                f"--{option.replace('_', '-')} is for the stages {', '.join(having)}, "
                "of which this run has none; episodic has --episodes and "
                "--set episodic.optimizer.lr=..."
            )
        for stage in stages:
            config = overridden(config, f"{stage}{key}", given[option])
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise click.UsageError(f"--set {setting}: expected KEY=VALUE")
        config = overridden(config, key.strip(), text.strip())
    return config


def check_same(folder: Path, config: TrainConfig) -> None:
    """Raise SkelfewError if the run in ``folder`` was started with other settings."""
    from skelfew.errors import SkelfewError
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
    document = {"run": str(folder), "encoder": str(run.encoder), "stages": last}
    say_json(document)


if __name__ == "__main__":
    sys.exit(main())
