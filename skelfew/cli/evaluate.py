"""skelfew-eval: a few-shot score worth quoting."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skelfew.cli.common import guarded, log, say_json
from skelfew.cli.options import (
    CONTEXT,
    COUNT,
    PATH,
    data_sets,
    flag,
    given_options,
    json_option,
    offering,
    option,
    pairs,
    trusting,
)
from skelfew.fewshot import POOLED, scored_by
from skelfew.io.files import Document

if TYPE_CHECKING:
    from skelfew.evaluation.subjects import Subject

SETTINGS = ("scale", "rule", "tune_steps", "lr", "entropy", "entropy_on")
# Options that change what is shown, but no number.
_SHOWN = ("out", "verbose", "as_json")
# Options about exemplars, which zero shots do not have.
_OF_EXEMPLARS = (
    *SETTINGS, "encoder", "ensemble", "raw", "mode", "exclude_synchronised_views", "within",
    "draws", "episodes", "ways", "queries", "classifiers", "pairs",
)  # fmt: skip


@click.command(context_settings=CONTEXT)
@option(
    "--shots",
    "Exemplars K; 0 compares with the texts of the classes.",
    type=click.IntRange(0),
    default=1,
)
@option(
    "--run",
    "runs",
    "Run folder; several are compared [the newest in runs/].",
    type=PATH,
    multiple=True,
)
@flag("--average", "Mean over the runs, e.g. one a split.")
@flag("--ensemble", "Score the runs as one: their similarities, each in its own unit, summed.")
@option("--encoder", "An encoder.safetensors without its run.", metavar="FILE", type=PATH)
@option(
    "--raw",
    "Score skeletons without any encoder too, with --dataset only them: aligned bodies by "
    "dynamic time warping, or joints as recorded [aligned].",
    is_flag=False,
    flag_value="aligned",
    choices=["aligned", "joints"],
)
@option(
    "--cache",
    "Score its teacher's own features of the videos too: what it can teach at most.",
    metavar="ZARR|ZIP",
)
@option(
    "--dataset", "Data set [that of the run].", metavar="NAME", shell_complete=offering(data_sets)
)
@option("--manifest", "Manifest, if it is not manifests/NAME.csv.", metavar="CSV")
@option("--store", "Skeleton store, if it is not data/NAME.h5.", metavar="H5")
@option("--protocol", "Few-shot protocol [that of the run].", metavar="NAME|FILE")
@option("--split", "Split of a protocol with several [that of the run].", metavar="K|all")
@option(
    "--mode",
    "The protocol's exemplars, random ones, the most central ones (an upper bound), or random "
    "episodes [exemplars if listed].",
    choices=["exemplars", "draws", "medoids", "episodes"],
)
@flag(
    "--exclude-synchronised-views",
    "Leave out queries that show an exemplar's own performance from another camera.",
)
@option(
    "--within",
    "With --mode draws or medoids: compare a query with exemplars of the same view, ... only.",
    choices=["view", "subject", "replication", "setup"],
)
@option(
    "--classes",
    "Which are scored; settings are chosen on validation classes.",
    default="novel",
    choices=["novel", "validation"],
)
@option(
    "--texts",
    "With --shots 0: cache with the classes' texts [that of the run].",
    metavar="ZARR|ZIP",
)
@option(
    "--shift/--no-shift",
    "With --shots 0: add to texts what they lack against targets on average [with].",
    default=True,
    show_default=False,
)
@option("--draws", "Random draws of exemplars [10].", type=COUNT)
@option("--episodes", "Random episodes [1000].", type=COUNT)
@option("--ways", "Classes an episode [5].", type=click.IntRange(2))
@option("--queries", "Queries a class and episode [15].", type=COUNT)
@option(
    "--classifier",
    "classifiers",
    "May be repeated; all is the first five. cosine-paper is tuned as printed, protonet and "
    "what follows are heads (docs/heads.md) [cosine; --raw dtw].",
    multiple=True,
    choices=[*scored_by(), "all"],
)
@option("--scale", "Of the cosines, in fine-tuning [10].", type=float)
@option(
    "--rule",
    "What several exemplars make of a class [class_mean].",
    choices=["class_mean", "mean_raw", "per_sample"],
)
@option("--tune-steps", "Fine-tuning [0; linear 20].", type=click.IntRange(0))
@option("--lr", "Of fine-tuning [0.0005].", type=float)
@option("--entropy", "Weight of the entropy term [0; linear 1].", type=float)
@option(
    "--entropy-on",
    "'query' makes the classifier transductive [support].",
    choices=["support", "query"],
)
@option(
    "--set",
    "pairs",
    "Any other setting of the classifiers, e.g. gamma=0.1 [heads: as trained].",
    metavar="KEY=VALUE",
    multiple=True,
)
@option("--seed", "Of all draws.", type=int, default=0)
@option("--device", "cpu, cuda, cuda:1 [cuda if there is one].", default="auto", show_default=False)
@option("--threads", "Processor threads.", type=COUNT)
@option("--out", "Write the JSON here too.", metavar="FILE", type=PATH)
@flag("--verbose", "-v", "Add classes, confusions and all exemplars.")
@json_option
@trusting
@guarded
def main(
    runs: tuple[Path, ...],
    encoder: Path | None,
    ensemble: bool,
    raw: str | None,
    cache: str | None,
    dataset: str | None,
    manifest: str | None,
    store: str | None,
    device: str,
    texts: str | None,
    shift: bool,
    threads: int | None,
    out: Path | None,
    verbose: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Score an encoder on classes it has never seen, from K exemplars of each, or from their names.

    \b
    skelfew-eval --shots 1
    skelfew-eval --shots 5 --classifier all --run runs/ntu120-20261124-101500
    skelfew-eval --run runs/a --run runs/b --ensemble
    skelfew-eval --mode episodes --ways 5 --episodes 10000
    skelfew-eval --raw --dataset nw-ucla
    skelfew-eval --raw --cache cache/utd-mhad.zarr --dataset utd-mhad
    skelfew-eval --shots 0

    The table says what the interval is over. The result is kept in the run's results/ folder.
    """
    if runs and encoder:
        raise click.UsageError("--run and --encoder both name what to evaluate; give one")
    if ensemble and len(runs) < 2:
        raise click.UsageError("--ensemble is of several runs; name each with --run")
    zero = options["shots"] == 0
    check_shots(zero)
    if options["mode"] not in (None, "episodes") and (
        odd := given_options("episodes", "ways", "queries")
    ):
        raise click.UsageError(f"{odd[0]} is for --mode episodes")
    from skelfew.io.known import Known
    from skelfew.runs.folder import Run, newest_run

    others = encoder or ((raw or cache) and (dataset or manifest))
    places = [*runs] if runs or others else [newest_run().path]
    asked = {k: v for k, v in click.get_current_context().params.items() if k not in _SHOWN}
    opened = [Run.open(place) for place in places]  # refuses links, also before a known answer
    asked["eval"] = [f"{run.path} {run.config().inputs}" for run in opened]  # what may be opened
    known = Known(Path("runs/known"), asked)
    if (document := known.answer()) is not None:
        log(f"known since {document['created']}, nothing has changed ({known.path})")
        return _end(document, [place / "results" for place in places], out, verbose, as_json)
    settings = {k: options.pop(k) for k in SETTINGS}
    settings = {k: v for k, v in settings.items() if v is not None}
    settings |= pairs("--set", options.pop("pairs"))
    names = options.pop("classifiers")
    if settings and not names:
        names = ("cosine",)
    classifiers = {} if zero else choose_classifiers(names, settings)

    import torch

    from skelfew.config import InputConfig
    from skelfew.evaluation.document import EvaluationPlan, evaluate
    from skelfew.evaluation.subjects import (
        Subject,
        encoder_subject,
        ensemble_subject,
        find_data,
        raw_subject,
        run_subject,
    )
    from skelfew.io.writing import check_place
    from skelfew.training.resolve import pick_device

    if threads is not None:
        torch.set_num_threads(threads)
    device = pick_device(device)
    synchronised = options.pop("exclude_synchronised_views")
    if options["draws"] is None:
        options["draws"] = EvaluationPlan.draws
    plan = EvaluationPlan(
        classifiers, exclude=("synchronised_views",) if synchronised else (), **options
    )
    given = InputConfig(dataset=dataset, manifest=manifest, store=store)
    subjects, folders = list[Subject](), []
    if encoder is not None:
        if not (dataset or manifest):
            from skelfew.encoders.checkpoints import read_metadata

            given = InputConfig(dataset=read_metadata(encoder).get("dataset"), store=store)
        samples, skeletons = find_data(given, protocol=plan.protocol)
        subjects.append(encoder_subject(encoder, samples, skeletons, device))
    elif runs or not ((raw or cache) and (dataset or manifest)):
        for run in [Run.open(path) for path in runs] or [newest_run()]:
            log(f"run {run.path}")
            if zero:
                from skelfew.evaluation.zeroshot import text_subject

                subject = text_subject(run, given, device, plan.protocol, texts, shift)
            else:
                subject = run_subject(run, given, device, plan.protocol)
            subjects.append(subject)
            folders.append(run.path / "results")
        if ensemble:
            by_split: dict[str | None, list[Subject]] = {}
            for subject in subjects:
                by_split.setdefault(subject.split, []).append(subject)
            subjects = [ensemble_subject(group, classifiers) for group in by_split.values()]
    if raw or cache:
        where = (
            (subjects[0].manifest, subjects[0].store)
            if subjects
            else find_data(given, protocol=plan.protocol)
        )
        if raw:
            subjects.append(raw_subject(*where, raw))
        if cache:
            from skelfew.evaluation.zeroshot import teacher_subject

            subjects.append(teacher_subject(cache, *where, texts=zero))
    check_place(out, *(folder / "result.json" for folder in folders))
    document = evaluate(subjects, plan)
    known.keep(document, [cache, texts, *_files(document, subjects)])
    return _end(document, folders, out, verbose, as_json)


def _files(document: Document, subjects: "Sequence[Subject]") -> Iterator[Path | str | None]:
    """Yield what a result rests on."""
    yield from ("manifests", "manifests/protocols", document["protocol"]["path"])
    for subject in subjects:
        yield from (subject.manifest.path, subject.store.path, subject.head)
        yield subject.about.get("encoder")
        if (run := subject.about.get("run")) is not None:
            yield from (Path(run) / name for name in ("config.json", "inputs.json"))
            yield from Path(run).glob("*.safetensors")
        yield (subject.about.get("texts") or {}).get("texts")


def _end(
    document: Document, folders: list[Path], out: Path | None, verbose: bool, as_json: bool
) -> int:
    """Keep and print a result."""
    paths = keep(document, folders, out)
    if as_json:
        say_json(document)
        return 0
    from skelfew.cli.evaluate_table import show

    show(document, verbose)
    for path in paths:
        log(f"kept in {path}")
    return 0


def check_shots(zero: bool) -> None:
    """Refuse options that say nothing without exemplars, or only without them."""
    for name in given_options(*(_OF_EXEMPLARS if zero else ("texts", "shift"))):
        if zero:
            raise click.UsageError(
                f"--shots 0 compares runs with texts, without exemplars; leave {name} out"
            )
        raise click.UsageError(f"{name} is for --shots 0, where texts describe the classes")


def choose_classifiers(names: tuple[str, ...], settings: Document) -> Document:
    """Return the classifiers asked for, with settings; cosine-paper keeps the printed ones."""
    from skelfew.fewshot import build_classifier, settings_known

    chosen = list(dict.fromkeys(n for name in names for n in (POOLED if name == "all" else [name])))
    tunable = [n for n in chosen if n != "cosine-paper"]
    having = {n: settings_known(n) for n in tunable}
    for key in settings:
        if not any(key in known for known in having.values()):
            given = f"--{key.replace('_', '-')}" if key in SETTINGS else f"--set {key}"
            raise click.UsageError(
                f"{given} is no setting of {', '.join(chosen)}; "
                + (
                    "--classifier cosine has all of them"
                    if key in SETTINGS
                    else f"they have {', '.join(sorted(set().union(*having.values()))) or 'none'}"
                )
            )
    return {n: build_classifier(n, settings if n in tunable else {}) for n in chosen}


def keep(document: Document, folders: list[Path], out: Path | None) -> list[Path]:
    """Write the result to the run folders and to ``out``; return the paths."""
    from skelfew.io.paths import below
    from skelfew.io.writing import write_json

    protocol, splits = document["protocol"], document["protocol"]["splits"]
    parts = [protocol["name"]]
    if splits:
        parts.append(f"split{splits[0]}" if len(splits) == 1 else f"{len(splits)}splits")
    parts += [f"{document['shots']}shot", document["mode"]]
    if len(document["subjects"]) > 1:
        parts.append(f"{len(document['subjects'])}subjects")
    if document["classes"] != "novel":
        parts.append(document["classes"])
    stem = "-".join([*parts, document["created"].replace(":", "")[:17]])
    paths = [below(folder, f"{stem}.json", protocol["name"], links=True) for folder in folders]
    paths += [out] if out else []
    for path in paths:
        write_json(path, document)
    return paths


if __name__ == "__main__":
    sys.exit(main())
