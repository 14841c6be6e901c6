"""Pictures from a camera through PyAV's devices, and videos written picture by picture."""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from skelfew.errors import SkelfewError
from skelfew.io.writing import writing
from skelfew_extract.frames import Picture, all_frames
from skelfew_extract.video_index import first_line

# How FFmpeg calls the cameras of a system, and how one of them by number.
_DEVICES = {
    "linux": ("video4linux2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}:none"),
    "win32": ("dshow", "video={}"),
}
_TRIED: tuple[dict[str, str], ...] = ({"video_size": "640x480", "framerate": "30"}, {})
_WAIT_S = 20.0  # for the first picture of a camera


def pyav(what: str) -> Any:
    """Import PyAV; raise SkelfewError that says what needs it."""
    try:
        import av
    except ImportError:
        raise SkelfewError(f"{what} needs PyAV: pip install 'skelfew[extract]'") from None
    return av


def pictures(source: str) -> Iterator[Picture]:
    """Yield the newest picture of a camera (number, name), or all of a video; else SkelfewError."""
    if Path(source).is_file() and not source.isdigit():
        yield from _ahead(all_frames(source), live=False)
    else:
        yield from _ahead(_camera(source), live=True)


def _camera(source: str) -> Iterator[Picture]:
    av = pyav("a camera")
    if sys.platform not in _DEVICES:
        raise SkelfewError(f"cameras of {sys.platform} are not known; name a video file")
    form, place = _DEVICES[sys.platform]
    name = place.format(source) if source.isdigit() or sys.platform != "linux" else source
    container = None
    fault: Exception = OSError()
    for options in _TRIED:  # not every camera has that size
        try:
            container = av.open(name, format=form, options=options, timeout=(_WAIT_S, None))
            break
        except (av.FFmpegError, OSError, ValueError) as error:
            fault = error
    if container is None:
        hint = "give its name with --camera NAME" if sys.platform == "win32" else "is it in use?"
        raise SkelfewError(
            f"camera {source} ({name}) cannot be opened: {first_line(fault)}; {hint}"
        )
    with container:
        start = time.monotonic()
        try:
            for number, frame in enumerate(container.decode(container.streams.video[0])):
                image = frame.to_ndarray(format="rgb24")
                yield Picture(number, time.monotonic() - start, image)
        except (av.FFmpegError, OSError) as error:
            raise SkelfewError(f"camera {source} stopped: {first_line(error)}") from None


def _ahead(source: Iterator[Picture], live: bool) -> Iterator[Picture]:
    """Decode in a thread; of a live source older pictures that were not fetched are left out."""
    waiting: queue.Queue[Picture | BaseException | None] = queue.Queue(1 if live else 4)
    stop = threading.Event()

    def put(item: Picture | BaseException | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.01 if live else 0.2)
                return
            if live and isinstance(item, Picture):
                with contextlib.suppress(queue.Empty):
                    waiting.get_nowait()

    def work() -> None:
        try:
            for picture in source:
                put(picture)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # raised again where the pictures are taken
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(timeout=2)


@contextlib.contextmanager
def video_writer(
    path: Path, fps: float, comment: str = ""
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that adds a picture, RGB uint8 (H, W, 3), to an MP4 of H.264.

    The file appears under its name only when complete. An odd last row or column is left out.
    Raises SkelfewError: PyAV is missing, or the file cannot be written.
    """
    av = pyav(f"writing {path}")
    options = {"preset": "veryfast", "crf": "24", "g": "12", "threads": "1", "bf": "0"}
    try:
        with writing(path) as file, av.open(file.name, "w", format="mp4") as container:
            if comment:
                container.metadata["comment"] = comment
            rate = Fraction(fps).limit_denominator(1001)
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.pix_fmt = "yuv420p"
            size: list[int] = []

            def add(image: np.ndarray) -> None:
                if not size:
                    size[:] = (n // 2 * 2 for n in image.shape[:2])
                    stream.height, stream.width = size
                image = np.ascontiguousarray(image[: size[0], : size[1]])
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                container.mux(stream.encode(frame))

            yield add
            container.mux(stream.encode())
    except (av.FFmpegError, OSError) as error:
        raise SkelfewError(f"{path}: cannot be written ({first_line(error)})") from None
