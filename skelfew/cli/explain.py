"""skelfew-explain: which joints decided, and when."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skelfew.cli.common import ERROR, OK, PARTIAL, guarded, log, say, say_json
from skelfew.cli.options import (
    CONTEXT,
    COUNT,
    FOLDER,
    PATH,
    flag,
    json_option,
    option,
    pairs,
    trusting,
)
from skelfew.fewshot import scored_by

if TYPE_CHECKING:
    from skelfew.explain.explanation import Explanation
    from skelfew.explain.heatmap import HeatmapStyle


@click.command(context_settings=CONTEXT)
@click.argument("sample_ids", metavar="SAMPLE_ID...", nargs=-1, required=True)
@option(
    "--run", "runs", "Run folder; can be repeated [the newest in runs/].", type=PATH, multiple=True
)
@option(
    "--classifier",
    "classifiers",
    "What is explained; can be repeated [the head that the run trained with].",
    multiple=True,
    choices=scored_by(),
)
@option(
    "--set",
    "given",
    "A setting of the classifiers, e.g. metric=cosine [heads: as trained].",
    metavar="KEY=VALUE",
    multiple=True,
)
@flag("--compare", "Draw all of them beside each other, too.")
@option("--shots", "Exemplars K.", default=1, type=COUNT)
@option("--protocol", "Few-shot protocol [that of the run].", metavar="NAME|FILE")
@option("--split", "Split of a protocol with several [that of the run].", metavar="K")
@option(
    "--output",
    "Attribute the logit of the verdict, or its lead on the class beyond the boundary.",
    default="logit",
    choices=["logit", "margin"],
)
@flag("--signed", "Show what spoke against the verdict too.")
@option("--steps", "Gradient steps of the search for the boundary.", default=100, type=COUNT)
@option(
    "--limit",
    "How far it goes, as a share of the recording's size.",
    type=click.FloatRange(0, 10, min_open=True),
    default=0.5,
)
@option("--bins", "Columns of the heatmap, at most.", default=16, type=COUNT)
@option("--frames", "Pictures above it, at most.", default=8, type=COUNT)
@option(
    "--view", "Where the skeleton is seen from.", default="front", choices=["front", "side", "top"]
)
@option("--up", "Axis that points upwards  [-y for pixels, else y].", choices=["y", "-y", "z"])
@flag("--no-video", "Draw the skeleton alone.")
@option("--videos", "Folder of the videos, if moved.", type=FOLDER)
@option("--manifest", "Manifest, if it has moved since the run.", metavar="CSV")
@option("--store", "Skeleton store, if it has moved since the run.", metavar="H5")
@option("--out", "Folder for what is written  [RUN/explain].", type=FOLDER)
@option("--seed", "Of random exemplars.", type=int, default=0)
@option("--device", "cpu, cuda, cuda:1 [cuda if there is one].", default="auto", show_default=False)
@option("--threads", "Processor threads.", type=COUNT)
@json_option
@trusting
@guarded
def main(
    sample_ids: tuple[str, ...],
    runs: tuple[Path, ...],
    classifiers: tuple[str, ...],
    given: tuple[str, ...],
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
    settings = pairs("--set", given)
    if compare and len(set(runs)) < 2 and len(set(classifiers)) < 2:
        raise click.UsageError("--compare needs two or more of --classifier, or of --run")

    import torch

    from skelfew.config import InputConfig
    from skelfew.errors import SkelfewError
    from skelfew.evaluation.subjects import run_subject
    from skelfew.explain.boundary import NoBoundary
    from skelfew.explain.explanation import Search, explain, find_method
    from skelfew.explain.heatmap import HeatmapStyle
    from skelfew.runs.folder import Run, newest_run
    from skelfew.training.resolve import pick_device

    if threads is not None:
        torch.set_num_threads(threads)
    device = pick_device(device)
    sample_ids = tuple(dict.fromkeys(sample_ids))
    search = Search(steps, limit, output)
    look = HeatmapStyle(bins, frames, view, up, signed, not no_video, videos)
    opened = [Run.open(path) for path in runs] or [newest_run()]
    methods = []
    for run in opened:
        log(f"run {run.path}")
        moved = InputConfig()
        if manifest or store:
            was = run.config().inputs
            moved = InputConfig(
                dataset=was.dataset, manifest=manifest or was.manifest, store=store or was.store
            )
        subject = run_subject(run, moved, device, protocol)
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
            of_sample = [(e, f) for e, f in found if e.sample.sample_id == sample_id]
            if len(of_sample) > 1:
                files, _ = write([e for e, _ in of_sample], of_sample[0][1], "compare", look)
                compared.append({"sample_id": sample_id, "files": files})
    if as_json:
        say_json({"explanations": documents, "compared": compared, "failed": failed})
    else:
        for document in (*documents, *compared):
            say(document["files"][0])
    return OK if not failed else PARTIAL if found else ERROR


def _in_words(explanation: "Explanation") -> str:
    """Return a line on stderr about an explanation."""
    e, peak = explanation, explanation.to_dict()["peak"]
    verdict = f"{e.predicted} {e.names.get(e.predicted, '')}"
    return (
        f"{e.sample.sample_id}, {e.method.title}: {verdict} against {e.other} "
        f"{e.names.get(e.other, '')}, boundary at {e.boundary.share:.2%} of its size; attributions "
        f"complete within {e.attribution.error:.1%} ({e.attribution.points} points); most at "
        f"{peak['joint']}, frame {peak['frame']:.0f}"
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
