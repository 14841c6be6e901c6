"""The process that decodes: takes clips from a pipe, sends back what the teacher will see.

Decoding stands in processes of its own because a decoder may crash, leak, or hang while holding
the interpreter lock; engine.py kills and replaces those that do.
"""

import faulthandler
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from skelfew_extract.clips import ClipReport, ClipTask, DecodeSettings
from skelfew_extract.crop import CropError, clip_box, crop_and_resize, segment_midpoints
from skelfew_extract.frames import VideoError, probe, read_frames


def decode_clip(task: ClipTask, settings: DecodeSettings) -> tuple[ClipReport, np.ndarray | None]:
    """Return the report of a clip and its pictures, uint8 (T V, 3, S, S), None if it failed."""
    stage, crop = "decode", settings.crop
    try:
        available = probe(task.video).frames
        indices = segment_midpoints(task.start, task.end, available, crop.pictures)
        frames = read_frames(task.video, indices, settings.decoder)
        stage = "crop"
        box, joints = clip_box(task.pixels, frames.shape[2], frames.shape[1], crop)
        clip = crop_and_resize(frames, box, crop.size, crop.interpolation)
    except VideoError as error:
        return ClipReport(task.row, stage, str(error)), None
    except CropError as error:
        return ClipReport(task.row, stage, f"{task.video}: {error}"), None
    if task.sheet is not None:
        from skelfew_extract.preview import write_sheet

        write_sheet(task, indices, frames, box, clip)
    return ClipReport(task.row, box=box, joints=joints), clip


def serve(pipe: Connection, settings: DecodeSettings) -> None:
    """Answer clip tasks from ``pipe`` until it closes. Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    torch.set_num_threads(1)
    try:
        with Path(os.devnull).open("w") as quiet:
            pipe.send("ready")
            while True:
                task: ClipTask = pipe.recv()
                # If the parent is gone and a decoder hangs, nobody else would end this process;
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
