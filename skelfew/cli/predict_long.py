"""``skelfew-predict --stream`` and ``--segments``: actions in long recordings."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skelfew.cli.common import ERROR, OK, PARTIAL, log, say, say_json
from skelfew.cli.predict import describe
from skelfew.errors import SkelfewError
from skelfew.predict.recogniser import Recogniser
from skelfew.predict.recordings import read_clips
from skelfew.predict.sliding import Segment, Stream, Watcher, segments

_KEYS = ("joints", "bodies", "keypoints")


def watch(recogniser: Recogniser, fps: float, support_fps: float, sure: float) -> int:
    """Read frames from standard input and print a line of JSON for each action, at once.

    Raises:
        SkelfewError: A line that is no frame; it is numbered.
    """
    stream = Stream(recogniser, fps, support_fps, sure)
    log(f"{stream.watcher}, every {stream.hop}")
    for number, line in enumerate(sys.stdin, start=1):
        if line.strip():
            _print(stream.add(_frame(line, number)), fps)
    _print(stream.finish(), fps)
    log(f"{stream.frame} frames, {stream.why}")
    return OK


def _print(found: Segment | None, fps: float) -> None:
    if found is not None:
        say_json(found.to_dict(fps), indent=None)
        sys.stdout.flush()


def _frame(line: str, number: int) -> np.ndarray | None:
    try:
        content: object = json.loads(line)
    except ValueError as error:
        raise SkelfewError(f"line {number}: not JSON ({error})") from None
    if isinstance(content, dict):
        key = next((k for k in _KEYS if k in content), None)
        if key is None:
            raise SkelfewError(f"line {number}: an object without {' or '.join(_KEYS)}")
        content = content[key]
    if content is None or content == []:
        return None
    try:
        return np.array(content, dtype=np.float32)  # null is NaN
    except (TypeError, ValueError):
        raise SkelfewError(
            f"line {number}: no joints; expected a list of [x, y, z] (or x, y, confidence) for "
            "each joint, a list of such lists for several people, or null for no person"
        ) from None


def print_segments(
    recogniser: Recogniser,
    paths: Sequence[Path],
    fps: float | None,
    support_fps: float,
    annotate: Path | None,
    as_json: bool,
) -> int:
    """Print the actions of untrimmed recordings; ``fps`` None is that of a video, else 30."""
    log(str(Watcher(recogniser, fps or 30.0, support_fps)))
    found, failed = [], []
    for path in paths:
        try:
            for clip in read_clips(path, *recogniser.reading):
                rate = fps or clip.fps or 30.0
                found.append((clip, rate, segments(recogniser, clip, rate, support_fps)))
        except SkelfewError as error:
            log(f"error: {error}")
            failed.append({"recording": str(path), "error": str(error)})
    if annotate is not None and found:
        from skelfew.cli.predict_live import annotate_video

        annotate_video(found[0][0], found[0][2], annotate)
    if as_json:
        recordings = [
            {"name": c.name, "frames": c.frames, "segments": [p.to_dict(rate) for p in parts]}
            for c, rate, parts in found
        ]
        say_json({**describe(recogniser), "recordings": recordings, "failed": failed})
    else:
        for clip, rate, parts in found:
            for part in parts:
                span = f"{part.start / rate:8.2f} {part.end / rate:8.2f}"
                text = f"{part.label}  {part.confidence:.0%}  (then {part.runner_up})"
                say(f"{clip.name}  {span}  {text}")
            if not parts:
                log(f"{clip.name}: none of the actions in {clip.frames} frames")
    return OK if not failed else PARTIAL if found else ERROR
