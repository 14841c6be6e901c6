"""skelfew-predict: which of one's own actions recordings show, from a few examples of each."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skelfew.cli.common import ERROR, OK, PARTIAL, guarded, log, say, say_json
from skelfew.cli.options import CONTEXT, COUNT, PATH, flag, json_option, option, pairs
from skelfew.errors import SkelfewError
from skelfew.io.files import Document

if TYPE_CHECKING:
    from skelfew.predict.model import Model
    from skelfew.predict.recogniser import Prediction, Recogniser
    from skelfew.predict.recordings import Clip


class Untrained(click.Command):
    """A command whose ``--raw`` may come before a recording: only a form is its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the value that is meant after each bare ``--raw``."""
        given: list[str] = []
        for i, word in enumerate(args):
            if (
                word == "--raw"
                and "--" not in given
                and args[i + 1 : i + 2] not in (["joints"], ["aligned"])
            ):
                word = "--raw=aligned"
            given.append(word)
        return super().parse_args(ctx, given)


@click.command(cls=Untrained, context_settings=CONTEXT)
@click.argument("recordings", nargs=-1, type=PATH)
@option(
    "--support",
    "A folder for each action, with one to five recordings of it.",
    required=True,
    metavar="FOLDER",
    type=PATH,
)
@option(
    "--run",
    "runs",
    "Run folder, or an encoder.safetensors [the newest in runs/].",
    metavar="RUN",
    multiple=True,
    type=PATH,
)
@flag("--ensemble", "Several --run as one: their similarities, each in its own unit, summed.")
@option(
    "--raw",
    "Without any run: compare aligned bodies, or joints as recorded [aligned].",
    choices=["aligned", "joints"],
)
@option(
    "--layout",
    "Joints of your arrays and keypoints [those of the run; --raw needs it for them].",
    metavar="NAME|TOML",
)
@option(
    "--reject/--no-reject",
    "Learn from the support when it is none of these [for recordings, not for --test].",
    default=None,
    show_default=False,
)
@flag("--map-joints", "Map joints of another layout to the run's.")
@option(
    "--option",
    "options",
    "coordinates=2|3, order=tvc|..., missing=keep, nan=drop. Can be repeated.",
    multiple=True,
    metavar="KEY=VALUE",
)
@option(
    "--test",
    "Other recordings in such a folder: how many are recognised?",
    metavar="FOLDER",
    type=PATH,
)
@flag("--segments", "Recordings are untrimmed: find the actions in them.")
@flag("--stream", "Frames come from standard input, a line of JSON each.")
@option("--camera", "Name what a camera or a video shows, live.", metavar="0|NAME|FILE")
@option(
    "--annotate",
    "Draw skeleton, label and time line on the video or the camera's pictures.",
    metavar="OUT.mp4",
    type=PATH,
)
@option("--pose-model", "Of videos [lite].", metavar="lite|full|heavy|FILE")
@option(
    "--export",
    "graph",
    "Write encoder and support as one graph (.pt2, .onnx), for use without skelfew.",
    metavar="FILE.pt2",
    type=PATH,
)
@option(
    "--fps",
    "Frames a second of the stream or the untrimmed recordings [a video's own, else 30].",
    type=click.FloatRange(0, min_open=True),
)
@option(
    "--support-fps",
    "Frames a second of support recordings that are no videos [30].",
    type=click.FloatRange(0, min_open=True),
)
@option(
    "--sure",
    "Confidence at which a stream's label is given.",
    type=click.FloatRange(0, 1),
    default=0.5,
)
@option("--device", "cpu, cuda, cuda:1.", default="cpu")
@option("--threads", "Processor threads.", type=COUNT)
@json_option
@guarded
def main(
    recordings: tuple[Path, ...],
    support: Path,
    runs: tuple[Path, ...],
    ensemble: bool,
    raw: str | None,
    layout: str | None,
    reject: bool | None,
    map_joints: bool,
    options: tuple[str, ...],
    test: Path | None,
    segments: bool,
    stream: bool,
    camera: str | None,
    annotate: Path | None,
    pose_model: str | None,
    graph: Path | None,
    fps: float | None,
    support_fps: float | None,
    sure: float,
    device: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Name the action that each recording shows: label, confidence, runner-up.

    \b
    skelfew-predict --support my-actions/ recording.npy
    skelfew-predict --support my-actions/ --run runs/ntu120-20261124-101500 takes/*.skeleton
    skelfew-predict --support my-actions/ --run runs/a --run runs/b --ensemble recording.npy
    skelfew-predict --support my-actions/ --reject --test other-takes/
    skelfew-predict --support my-actions/ --segments an-hour.npy
    skelfew-predict --support my-videos/ --camera 0
    keypoints | skelfew-predict --support my-actions/ --stream

    my-actions/ holds a folder for each action, called like it, and in that one to five recordings
    of any format that skelfew-prepare reads, or videos. Without --run and without a run in runs/
    nothing trained is needed. docs/predict.md has the details.
    """
    if raw and runs:
        raise click.UsageError("--raw takes no --run")
    if ensemble != (len(runs) > 1):
        raise click.UsageError("several --run are an --ensemble, and that is of several --run")
    ways = (bool(test), stream, segments, camera is not None)
    if sum(ways) > 1 or (recordings and (test or stream or camera)):
        raise click.UsageError(
            "recordings (with --segments or not), --test, --stream or --camera: give one"
        )
    if not (recordings or test or stream or camera or graph):
        raise click.UsageError("name recordings, a folder of them with --test, or a --camera")
    if annotate and not camera and len(recordings) != 1:
        raise click.UsageError("--annotate draws on one video, or on a --camera")
    from skelfew.io.known import Known
    from skelfew.predict.support import recordings_of
    from skelfew.runs.folder import Run, newest_run

    taught = [path for paths in recordings_of(support).values() for path in paths]
    encoders = [run if run.is_file() else Run.open(run).encoder for run in runs]
    if not (runs or raw):
        with suppress(SkelfewError):
            encoders = [newest_run().encoder]
    asked = {**click.get_current_context().params, "as_json": None, "encoders": encoders}
    known = Known(Path("runs/known"), asked)
    plain = not (graph or test or stream or segments or camera or annotate)
    if plain and (answer := known.answer()) is not None:
        log(f"nothing has changed since it was predicted ({known.path})")
        return _print(answer, as_json)
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    reject = bool(recordings) and not segments if reject is None else reject  # unknown content
    if pose_model is not None:
        options += (f"pose_model={pose_model}",)
    recogniser = learn(support, runs, raw, layout, reject, map_joints, options, device)
    if graph is not None:
        from skelfew.predict.export import export

        log(f"{export(recogniser, graph)}: {', '.join(recogniser.classes)}")
        if not (recordings or test or stream or camera):
            return OK
    if test is not None:
        from skelfew.cli.predict_test import report

        report(recogniser, test, as_json)
        return OK
    support_fps = support_fps or 30.0
    if camera is not None:
        from skelfew.cli.predict_live import watch_camera

        return watch_camera(recogniser, camera, support_fps, sure, annotate)
    if stream:
        from skelfew.cli.predict_long import watch

        return watch(recogniser, fps or 30.0, support_fps, sure)
    if segments:
        from skelfew.cli.predict_long import print_segments

        return print_segments(recogniser, recordings, fps, support_fps, annotate, as_json)
    found, failed = predict_all(recogniser, recordings)
    if annotate is not None and found:
        from skelfew.cli.predict_live import annotate_video
        from skelfew.predict.recordings import read_clip

        annotate_video(read_clip(recordings[0], *recogniser.reading), found[0], annotate)
    shown = {"predictions": [p.to_dict() for p in found], "failed": failed}
    answer = {"document": {**describe(recogniser), **shown}, "lines": lines(found)}
    if plain:
        read = [*taught, *recordings, support, *{path.parent for path in taught}]
        inner = [inside for path in read if path.is_dir() for inside in path.rglob("*")]
        known.keep(answer, [*read, *inner, *encoders, layout, pose_model])
    return _print(answer, as_json)


def _print(answer: Document, as_json: bool) -> int:
    """Print what was predicted; return the exit status."""
    document = answer["document"]
    for failure in document["failed"]:
        log(f"error: {failure['error']}")
    if as_json:
        say_json(document)
    else:
        for line in answer["lines"]:
            say(line)
    return OK if not document["failed"] else PARTIAL if document["predictions"] else ERROR


def _first(support: Path, layout: str, options: dict[str, str]) -> "Clip | None":
    """Return the first support recording; None if it cannot be read: reading all says why."""
    from skelfew.data.joints.layouts import load_layout
    from skelfew.predict.recordings import is_recording, read_clips

    first = next((p for p in sorted(support.glob("*/*")) if is_recording(p)), None)
    try:
        return read_clips(first or support, load_layout(layout), options)[0]
    except SkelfewError:
        return None


def _untrained(
    support: Path, raw: str, layout: str | None, options: dict[str, str]
) -> tuple["Model", str]:
    """Return a model without an encoder for what the support recordings are, and their layout."""
    from skelfew.data.readers.own import PICTURES
    from skelfew.predict.model import Model

    first = _first(support, layout or "kinect-v2", options)
    if layout is None:
        from skelfew.predict.recordings import brings_layout

        if first is None or not brings_layout(Path(first.name)):
            raise click.UsageError(
                "say with --layout what the joints of the support recordings are, or name a --run"
            )
        layout = first.layout.name
    if options.get("coordinates") in ("2", "3"):
        coordinates = int(options["coordinates"])
    elif first is not None:
        coordinates = first.coordinates
    else:
        coordinates = 2 if layout in PICTURES else 3
    return (Model.raw if raw == "joints" else Model.untrained)(layout, coordinates), layout


def learn(
    support: Path,
    runs: Sequence[Path],
    raw: str | None,
    layout: str | None,
    reject: bool,
    map_joints: bool,
    options: Sequence[str],
    device: str,
) -> "Recogniser":
    """Open the runs, if any, and read the support folder."""
    from skelfew.predict.model import EnsembleModel, Model
    from skelfew.predict.recogniser import Recogniser
    from skelfew.runs.folder import newest_run
    from skelfew.training.resolve import pick_device

    device = pick_device(device)
    given = pairs("--option", options)
    if raw is None and not runs:
        try:
            runs = [newest_run().path]
            log(f"run {runs[0]}")
        except SkelfewError:
            raw = "aligned"
            log("no run in runs/")

    def taught(model: Model, joints: str | None) -> Recogniser:
        teach = partial(Recogniser.learn, support, model, layout=joints, map_joints=map_joints)
        return teach(reject=reject, options=given, note=log)

    if raw:
        recogniser = taught(*_untrained(support, raw, layout, given))
    else:
        models = [Model.from_run(run) for run in runs]
        model = EnsembleModel.of(models) if len(models) > 1 else models[0]
        recogniser = taught(model.to(device), layout)
    if recogniser.model.encoder is None:
        log(f"compared without training: {recogniser.model.name}; {recogniser.how_sure()}")
    if recogniser.rejection is not None:
        log(str(recogniser.rejection))
    return recogniser


def predict_all(
    recogniser: "Recogniser", paths: Sequence[Path]
) -> tuple[list["Prediction"], list[dict[str, str]]]:
    """Return predictions for all recordings that can be used, and what is wrong with the others."""
    from skelfew.predict.recogniser import gathered
    from skelfew.predict.recordings import read_clips

    clips, failed = [], []
    for path in paths:
        try:
            read = read_clips(path, *recogniser.reading)
            for clip in read:
                recogniser.model.fit(clip, recogniser.map_joints)
            clips += read
        except SkelfewError as error:
            failed.append({"recording": str(path), "error": str(error)})
    found = recogniser.predict_clips(clips)
    for text in gathered(found):
        log(text)
    return found, failed


def describe(recogniser: "Recogniser") -> Document:
    """Return what the answers rest on, for JSON."""
    counts = recogniser.labels.bincount().tolist()
    return {
        "run": recogniser.model.name,
        "support": dict(zip(recogniser.classes, counts, strict=True)),
        "scale": recogniser.scale,
        "rejection": recogniser.rejection and recogniser.rejection.to_dict(),
    }


def lines(predictions: Sequence["Prediction"]) -> list[str]:
    """Return a line for each prediction, in columns."""
    from skelfew.predict.rejection import NONE_OF_THESE

    rows = [(p.name, p.label or NONE_OF_THESE, f"{p.confidence:4.0%}") for p in predictions]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    starts = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return [
        f"{start}  (then {p.runner_up} {p.runner_up_confidence:.0%})"
        for start, p in zip(starts, predictions, strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
