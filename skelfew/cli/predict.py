"""skelfew-predict: which of one's own actions recordings show, from a few examples of each."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skelfew.cli.common import CONTEXT, ERROR, OK, PARTIAL, guarded, log, say, say_json

if TYPE_CHECKING:
    from skelfew.predict.recogniser import Prediction, Recogniser


class Untrained(click.Command):
    """A command whose ``--raw`` may stand before a recording: only a form is its value."""

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
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--support",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="A folder for each action, with one to five recordings of it.",
)
@click.option(
    "--run",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Run folder, or an encoder.safetensors [the newest in runs/].",
)
@click.option(
    "--raw",
    type=click.Choice(["aligned", "joints"]),
    help="Without any run: compare aligned bodies, or joints as recorded [aligned].",
)
@click.option(
    "--layout",
    metavar="NAME|TOML",
    help="Joints of your arrays and keypoints [those of the run; --raw needs it].",
)
@click.option("--reject", is_flag=True, help="Learn from the support when it is none of these.")
@click.option("--map-joints", is_flag=True, help="Map joints of another layout to the run's.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="coordinates=2|3, order=tvc|..., missing=keep, nan=drop. Can be repeated.",
)
@click.option(
    "--test",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Other recordings in such a folder: how many are recognised?",
)
@click.option(
    "--segments", is_flag=True, help="Recordings are untrimmed: find the actions in them."
)
@click.option(
    "--stream", is_flag=True, help="Frames come from standard input, a line of JSON each."
)
@click.option(
    "--export",
    "graph",
    metavar="FILE.pt2",
    type=click.Path(path_type=Path),
    help="Write encoder and support as one graph (.pt2, .onnx), for use without skelfew.",
)
@click.option(
    "--fps",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Frames a second of the stream or the untrimmed recordings.",
)
@click.option(
    "--support-fps",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Frames a second of the support recordings.",
)
@click.option(
    "--sure",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Confidence at which a stream's label is given.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@guarded
def main(
    recordings: tuple[Path, ...],
    support: Path,
    run: Path | None,
    raw: str | None,
    layout: str | None,
    reject: bool,
    map_joints: bool,
    options: tuple[str, ...],
    test: Path | None,
    segments: bool,
    stream: bool,
    graph: Path | None,
    fps: float,
    support_fps: float,
    sure: float,
    device: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Name the action that each recording shows: label, confidence, runner-up.

    \b
    skelfew-predict --support my-actions/ recording.npy
    skelfew-predict --support my-actions/ --run runs/ntu120-20261124-101500 takes/*.skeleton
    skelfew-predict --support my-actions/ --reject --test other-takes/
    skelfew-predict --support my-actions/ --segments an-hour.npy
    camera | skelfew-predict --support my-actions/ --stream

    my-actions/ holds a folder for each action, called like it, and in that one to five recordings
    of any format that skelfew-prepare reads. docs/predict.md has the details.
    """
    if raw and (run or not layout):
        raise click.UsageError("--raw takes no --run, but a --layout that says what the joints are")
    if sum((bool(test), stream, segments)) > 1 or (recordings and (test or stream)):
        raise click.UsageError("recordings (with --segments or not), --test or --stream: give one")
    if not (recordings or test or stream or graph):
        raise click.UsageError("name recordings, or a folder of them with --test")
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    recogniser = learn(support, run, raw, layout, reject, map_joints, options, device)
    if graph is not None:
        from skelfew.predict.export import export

        log(f"{export(recogniser, graph)}: {', '.join(recogniser.classes)}")
        if not (recordings or test or stream):
            return OK
    if test is not None:
        from skelfew.cli.predict_test import report

        report(recogniser, test, as_json)
        return OK
    if stream or segments:
        from skelfew.cli.predict_long import print_segments, watch

        if stream:
            return watch(recogniser, fps, support_fps, sure)
        return print_segments(recogniser, recordings, fps, support_fps, as_json)
    found, failed = predict_all(recogniser, recordings)
    if as_json:
        document = {
            **describe(recogniser),
            "predictions": [p.to_dict() for p in found],
            "failed": failed,
        }
        say_json(document)
    else:
        for line in lines(found):
            say(line)
    return OK if not failed else PARTIAL if found else ERROR


def _coordinates(support: Path, layout: str, options: dict[str, str]) -> int:
    """Return 2 or 3: as asked, else what the first support recording has."""
    from skelfew.data.joints.layouts import load_layout
    from skelfew.data.readers.own import PICTURES
    from skelfew.errors import SkelfewError
    from skelfew.predict.recordings import is_recording, read_clips

    if options.get("coordinates") in ("2", "3"):
        return int(options["coordinates"])
    first = next((p for p in sorted(support.glob("*/*")) if is_recording(p)), None)
    try:
        return read_clips(first or support, load_layout(layout), options)[0].coordinates
    except SkelfewError:  # reading the support names it, with the reason
        return 2 if layout in PICTURES else 3


def learn(
    support: Path,
    run: Path | None,
    raw: str | None,
    layout: str | None,
    reject: bool,
    map_joints: bool,
    options: Sequence[str],
    device: str,
) -> "Recogniser":
    """Open the run and read the support folder."""
    from skelfew.predict.model import Model
    from skelfew.predict.recogniser import Recogniser
    from skelfew.training.resolve import pick_device

    device = pick_device(device)
    given = dict(_pair(text) for text in options)
    if raw:
        make = Model.raw if raw == "joints" else Model.untrained
        model = make(str(layout), _coordinates(support, str(layout), given))
    else:
        model = Model.from_run(run).to(device)
        if run is None:
            log(f"run {model.name}")
    recogniser = Recogniser.learn(
        support,
        model,
        layout=layout,
        map_joints=map_joints,
        reject=reject,
        options=given,
        note=log,
    )
    if recogniser.rejection is not None:
        log(str(recogniser.rejection))
    return recogniser


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--option {text!r}: write it as key=value")
    return key, value


def predict_all(
    recogniser: "Recogniser", paths: Sequence[Path]
) -> tuple[list["Prediction"], list[dict[str, str]]]:
    """Return predictions for all recordings that can be used, and what is wrong with the others."""
    from skelfew.errors import SkelfewError
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
            log(f"error: {error}")
            failed.append({"recording": str(path), "error": str(error)})
    found = recogniser.predict_clips(clips)
    for text in gathered(found):
        log(text)
    return found, failed


def describe(recogniser: "Recogniser") -> dict[str, Any]:
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
    from skelfew.predict.rejection import NOBODY

    rows = [
        (
            p.name,
            NOBODY if p.label is None else p.label,
            f"{p.confidence:4.0%}",
            f"{p.runner_up} {p.runner_up_confidence:.0%}",
        )
        for p in predictions
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)] if rows else []
    return [
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), f"(then {row[3]})"])
        for row in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
