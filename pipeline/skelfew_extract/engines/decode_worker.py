"""The process that decodes: takes clips from a pipe, sends back what the teacher will see.

Decoding has processes of its own because a decoder may crash, leak, or hang while holding
the interpreter lock; engine.py kills and replaces those that do.
"""

import faulthandler
import itertools
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from skelfew_extract.clips import ClipReport, ClipTask, DecodeSettings
from skelfew_extract.crop import Box, CropError, clip_box, crop_and_resize, segment_midpoints
from skelfew_extract.frames import ShortVideo, Video, VideoError, pictures_of
from skelfew_extract.turning import shown_pixels

_AT_ONCE = 8  # full pictures in memory


def decode_clip(task: ClipTask, settings: DecodeSettings) -> tuple[ClipReport, np.ndarray | None]:
    """Return the report of a clip and its pictures, uint8 (T V, 3, S, S), None if it failed."""
    stage = "decode"
    try:
        with Video(task.video) as video:
            info, stage = video.info, "crop"
            pixels = shown_pixels(task.pixels, info.width, info.height, info.turn)
            box, joints = clip_box(pixels, info.width, info.height, settings.crop)
            try:
                clip = _cut(video, task, pixels, box, settings, info.frames)
            except ShortVideo as error:  # decoding finds fewer pictures than the packets promise
                clip = _cut(video, task, pixels, box, settings, error.frames)
    except VideoError as error:
        return ClipReport(task.row, "decode", str(error)), None
    except CropError as error:
        return ClipReport(task.row, stage, f"{task.video}: {error}"), None
    return ClipReport(task.row, box=box, joints=joints), clip


def _cut(
    video: Video,
    task: ClipTask,
    pixels: np.ndarray | None,
    box: Box,
    settings: DecodeSettings,
    available: int,
) -> np.ndarray:
    """Cut and resize every picture as it comes, so that few full pictures are in memory."""
    crop = settings.crop
    indices = segment_midpoints(task.start, task.end, available, crop.pictures)
    clip = np.empty((crop.pictures, 3, crop.size, crop.size), dtype=np.uint8)
    sheet = None
    if task.sheet is not None:
        from skelfew_extract.preview import Sheet

        sheet = Sheet(task, pixels, indices, box)
    coming = pictures_of(video, indices, settings.decoder)
    while part := list(itertools.islice(coming, _AT_ONCE)):
        frames = np.stack([frame[box.top : box.bottom, box.left : box.right] for _, frame in part])
        whole = Box(0, 0, frames.shape[2], frames.shape[1])
        cut = crop_and_resize(frames, whole, crop.size, crop.interpolation)
        for (i, frame), picture in zip(part, cut, strict=True):
            clip[i] = picture
            if sheet is not None:
                sheet.add(i, frame, picture)
    if sheet is not None:
        sheet.write()
    return clip


def serve(pipe: Connection, settings: DecodeSettings) -> None:
    """Answer clip tasks from ``pipe`` until it closes. Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    torch.set_num_threads(1)
    try:
        with Path(os.devnull).open("w") as quiet:
            pipe.send("ready")
            while True:
                task: ClipTask = pipe.recv()
                # If the parent is gone and a decoder hangs, no other process would end this one;
                # this timer does, even while the decoder holds the interpreter lock.
                limit = 3 * settings.timeout + 10
                faulthandler.dump_traceback_later(limit, exit=True, file=quiet)
                report, clip = decode_clip(task, settings)
                faulthandler.cancel_dump_traceback_later()
                pipe.send(report)
                if clip is not None:
                    pipe.send_bytes(clip.tobytes())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has ended
