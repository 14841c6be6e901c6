"""skelfew-explain: which joints decided, and when."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skelfew.cli.common import (
    CONTEXT,
    ERROR,
    FOLDER,
    OK,
    PARTIAL,
    PATH,
    guarded,
    log,
    say,
    say_json,
    trusting,
)
from skelfew.fewshot import scored_by

if TYPE_CHECKING:
    from skelfew.explain.explanation import Explanation
    from skelfew.explain.heatmap import HeatmapStyle


@click.command(context_settings=CONTEXT)
@click.argument("sample_ids", metavar="SAMPLE_ID...", nargs=-1, required=True)
@click.option(
    "--run",
    "runs",
    type=PATH,
    multiple=True,
    help="Run folder; can be repeated [the newest in runs/].",
)
@click.option(
    "--classifier",
    "classifiers",
    type=click.Choice(scored_by()),
    multiple=True,
    help="What is explained; can be repeated [the head that the run trained with].",
)
@click.option(
    "--set",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting of the classifiers, e.g. metric=cosine [heads: as trained].",
)
@click.option("--compare", is_flag=True, help="Draw all of them beside each other, too.")
@click.option("--shots", type=click.IntRange(1), default=1, show_default=True, help="Exemplars K.")
@click.option("--protocol", metavar="NAME|FILE", help="Few-shot protocol [that of the run].")
@click.option("--split", metavar="K", help="Split of a protocol with several [that of the run].")
@click.option(
    "--output",
    type=click.Choice(["logit", "margin"]),
    default="logit",
    show_default=True,
    help="Attribute the logit of the verdict, or its lead on the class beyond the boundary.",
)
@click.option("--signed", is_flag=True, help="Show what spoke against the verdict too.")
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True,
              help="Gradient steps of the search for the boundary.")  # fmt: skip
@click.option(
    "--limit",
    type=click.FloatRange(0, 10, min_open=True),
    default=0.5,
    show_default=True,
    help="How far it goes, as a share of the recording's size.",
)
@click.option("--bins", type=click.IntRange(1), default=16, show_default=True,
              help="Columns of the heatmap, at most.")  # fmt: skip
@click.option("--frames", type=click.IntRange(1), default=8, show_default=True,
              help="Pictures above it, at most.")  # fmt: skip
@click.option(
    "--view",
    type=click.Choice(["front", "side", "top"]),
    default="front",
    show_default=True,
    help="Where the skeleton is seen from.",
)
@click.option("--up", type=click.Choice(["y", "-y", "z"]),
              help="Axis that points upwards  [-y for pixels, else y].")  # fmt: skip
@click.option("--no-video", is_flag=True, help="Draw the skeleton alone.")
@click.option("--videos", type=FOLDER, help="Folder of the videos, if moved.")
@click.option("--manifest", metavar="CSV", help="Manifest, if it has moved since the run.")
@click.option("--store", metavar="H5", help="Skeleton store, if it has moved since the run.")
@click.option("--out", type=FOLDER, help="Folder for what is written  [RUN/explain].")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random exemplars.")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1 [cuda if there is one].")
@click.option("--threads", type=click.IntRange(1), help="Processor threads.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@trusting
@guarded
def main(
    sample_ids: tuple[str, ...],
    runs: tuple[Path, ...],
    classifiers: tuple[str, ...],
    pairs: tuple[str, ...],
    compare: bool,
    shots: int,
    protocol: str | None,
    split: str | None,
    output: str,
    signed: bool,
    steps: int,
    limit: float,
    bins: int,
    frames: int,
    view: str,
    up: str | None,
    no_video: bool,
    videos: Path | None,
    manifest: str | None,
    store: str | None,
    out: Path | None,
    seed: int,
    device: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Show which joints decided what a sample was taken for, and when.

    \b
    skelfew-explain a12_s3_t1
    skelfew-explain a12_s3_t1 --classifier cosine --classifier protonet --compare
    skelfew-explain a12_s3_t1 --run runs/ours --run runs/dastm --compare

    Gradients are integrated from the nearest point at which the verdict changes. Each explanation
    is a heatmap of joints and frames (.png, .svg) and its numbers (.npz) in RUN/explain/.
    """
    settings = dict(_pair(text) for text in pairs)
    if compare and len(set(runs)) < 2 and len(set(classifiers)) < 2:
        raise click.UsageError("--compare needs two or more of --classifier, or of --run")

    import torch

    from skelfew.config import InputConfig
    from skelfew.errors import SkelfewError
    from skelfew.evaluation.subjects import run_subject
    from skelfew.explain.boundary import NoBoundary
    from skelfew.explain.explanation import Search, explain, find_method
    from skelfew.runs.folder import Run, newest_run
    from skelfew.training.resolve import pick_device

    try:
        from skelfew.explain.heatmap import HeatmapStyle
    except ModuleNotFoundError as error:
        raise SkelfewError(
            f"drawing needs {error.name}, which is not installed; pip install 'skelfew[explain]'"
        ) from None

    if threads is not None:
        torch.set_num_threads(threads)
    device = pick_device(device)
    sample_ids = tuple(dict.fromkeys(sample_ids))
    search, look = (
        Search(steps, limit, output),
        HeatmapStyle(bins, frames, view, up, signed, not no_video, videos),
    )
    opened = [Run.open(path) for path in runs] or [newest_run()]
    methods = []
    for run in opened:
        log(f"run {run.path}")
        given = InputConfig()
        if manifest or store:
            there = run.config().inputs
            given = InputConfig(
                dataset=there.dataset,
                manifest=manifest or there.manifest,
                store=store or there.store,
            )
        subject = run_subject(run, given, device, protocol)
        for name in dict.fromkeys(classifiers) or (None,):
            methods.append(
                find_method(subject, name, settings, shots, sample_ids, protocol, split, seed)
            )
    known = {m.subject.manifest.sha256 for m in methods}
    if compare and len(known) > 1:
        raise SkelfewError("the runs are of different data sets; compare runs on one")
    found: list[tuple[Explanation, Path]] = []
    failed, documents = [], []
    for method in methods:
        folder = out or Path(method.subject.about["run"]) / "explain"
        for result in explain(method, sample_ids, search, device):
            if isinstance(result, NoBoundary):
                log(f"error: {result}")
                failed.append({"run": method.subject.about["run"], "error": str(result)})
                continue
            log(_in_words(result))
            several = out is not None and len(opened) > 1
            stem = f"{method.subject.name}-{method.name}" if several else method.name
            files, notes = write([result], folder, stem, look)
            for note in (*result.notes(), *notes):
                log(note)
            found.append((result, folder))
            documents.append({**result.to_dict(), "files": files})
    compared = []
    if compare:
        for sample_id in sample_ids:
            pairs_of = [(e, f) for e, f in found if e.sample.sample_id == sample_id]
            if len(pairs_of) > 1:
                files, _ = write([e for e, _ in pairs_of], pairs_of[0][1], "compare", look)
                compared.append({"sample_id": sample_id, "files": files})
    if as_json:
        document = {"explanations": documents, "compared": compared, "failed": failed}
        say_json(document)
    else:
        for document in (*documents, *compared):
            say(document["files"][0])
    return OK if not failed else PARTIAL if found else ERROR


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set {text}: expected KEY=VALUE")
    return key, value


def _in_words(explanation: "Explanation") -> str:
    """Return a line on stderr about an explanation."""
    e, found = explanation, explanation.to_dict()
    verdict = f"{e.predicted} {e.names.get(e.predicted, '')}"
    return (
        f"{e.sample.sample_id}, {e.method.title}: {verdict} against {e.other} "
        f"{e.names.get(e.other, '')}, boundary at {e.boundary.share:.2%} of its size; attributions "
        f"complete within {e.attribution.error:.1%} ({e.attribution.points} points); most at "
        f"{found['peak']['joint']}, frame {found['peak']['frame']:.0f}"
    )


def write(
    explanations: "list[Explanation]", folder: Path, stem: str, look: "HeatmapStyle"
) -> tuple[list[str], list[str]]:
    """Write the picture, and the numbers of a single explanation; return files and notes."""
    from skelfew.data.manifest import file_name
    from skelfew.explain.heatmap import draw, save

    subject = explanations[0].method.subject
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file_name(explanations[0].sample.sample_id)}-{file_name(stem)}"
    assert subject.manifest.path is not None
    figure, notes = draw(explanations, subject.manifest.path, look)
    paths = [path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".svg")]
    for target in paths:
        save(figure, target)
    if len(explanations) == 1:
        paths.append(path.with_name(f"{path.name}.npz"))
        explanations[0].save(paths[-1])
    return [str(p) for p in paths], notes


if __name__ == "__main__":
    sys.exit(main())
