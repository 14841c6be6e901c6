"""Every kind of video that people have, made here: pictures that carry their number.

A cell is a codec in a container under a variant. ``python tests/extract/video_cells.py`` reads each
with each reader, compares with decoding from the start, and prints the tables of docs/videos.md.
"""

import itertools
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from skelfew_extract.frames import VideoError, all_frames, read_frames
from video_files import picture

FRAMES, GROUP = 40, 12
X264 = {"g": str(GROUP), "preset": "veryfast", "threads": "1"}
X265 = {"x265-params": f"keyint={GROUP}:min-keyint={GROUP}:pools=1:log-level=none"}
VPX = {"g": str(GROUP), "deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"}
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {**X264, "bf": "0"}),
    "h264 B-frames": ("libx264", {**X264, "bf": "3"}),
    "h264 open groups": ("libx264", {**X264, "bf": "3", "x264-params": "open-gop=1"}),
    "h264 intra refresh": ("libx264", {**X264, "bf": "0", "x264-params": "intra-refresh=1"}),
    "h264 interlaced": ("libx264", {**X264, "bf": "2", "x264-params": "tff=1"}),
    "hevc": ("libx265", {"x265-params": X265["x265-params"] + ":bframes=0"}),
    "hevc open groups": ("libx265", {"x265-params": X265["x265-params"] + ":open-gop=1"}),
    "vp8": ("libvpx", {**VPX, "lag-in-frames": "12", "deadline": "good"}),
    "vp9": ("libvpx-vp9", {**VPX, "lag-in-frames": "12", "deadline": "good"}),
    "av1": ("libsvtav1", {"preset": "12", "g": str(GROUP)}),
    "mpeg4": ("mpeg4", {"g": str(GROUP), "bf": "0"}),
    "mpeg4 B-frames": ("mpeg4", {"g": str(GROUP), "bf": "2"}),
    "mpeg2 B-frames": ("mpeg2video", {"g": str(GROUP), "bf": "2", "b": "2M"}),
    "mjpeg": ("mjpeg", {}),
}
CONTAINERS = {
    "mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm", "avi": "avi", "ts": "mpegts",
    "h264": "h264",
}  # fmt: skip
TRIMS = ((0, 20), (5, 30), (GROUP, 33), (17, 40), (31, 36))  # first frame, one past the last
READERS = ("auto", "all_frames", "decord")
TURNS = (90, 180, 270)


def write(
    path: Path,
    codec: str,
    container: str,
    count: int = FRAMES,
    times: Callable[[int], int] = int,
    turn: int = 0,
    size: tuple[int, int] = (128, 64),
    options: dict[str, str] | None = None,
) -> Path:
    """Encode numbered pictures; frame i is shown at ``times(i)`` thirtieths of a second."""
    encoder, how = CODECS[codec]
    with av.open(str(path), "w", format=CONTAINERS[container], options=options or {}) as out:
        stream: Any = out.add_stream(encoder, rate=30, options=how)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        stream.time_base = Fraction(1, 30)
        if turn:
            stream.set_display_rotation(turn)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
            frame.pts, frame.time_base = times(i), Fraction(1, 30)
            out.mux(stream.encode(frame))
        for packet in stream.encode(None):
            if count == 1:
                packet.dts = packet.pts  # libx265 leaves the dts of a lone frame unset at times
            out.mux(packet)
    return path


def remux(
    source: Path,
    path: Path,
    container: str,
    first: int = 0,
    stop: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Copy the packets; of a trim, those from the last key frame on, with times below zero."""
    with (
        av.open(str(source)) as old,
        av.open(str(path), "w", format=CONTAINERS[container], options=options or {}) as new,
    ):
        inside = old.streams.video[0]
        stream = new.add_stream_from_template(inside)
        packets = [p for p in old.demux(inside) if p.size and p.dts is not None]
        times = sorted(p.pts for p in packets if p.pts is not None)
        start = times[first] if times else 0
        end = times[stop] if stop is not None and stop < len(times) else None
        keys = [i for i, p in enumerate(packets) if p.is_keyframe and (p.pts or 0) <= start]
        for packet in packets[keys[-1] if keys else 0 :]:
            if end is not None and packet.pts is not None and packet.pts >= end:
                continue
            if packet.pts is not None:
                packet.pts -= start
            packet.dts -= start
            packet.stream = stream
            new.mux(packet)
    return path


def make(folder: Path, codec: str, container: str, variant: str) -> Path:
    """Write the cell; raise ValueError or av.FFmpegError where the container cannot hold it."""
    path = folder / f"video.{container}"
    kind, _, detail = variant.partition(" ")
    if kind == "trimmed":
        first, stop = TRIMS[int(detail)]
        source = write(folder / f"source.{container}", codec, container)
        return remux(source, path, container, first, stop)
    if kind == "turned":
        return write(path, codec, container, turn=int(detail))
    if kind == "remuxed":
        source = write(folder / f"source.{detail}", codec, detail)
        return remux(source, path, container)
    if kind == "fragmented":
        flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        return write(path, codec, container, options=flags)
    if kind == "rate":
        return write(path, codec, container, times=lambda i: i + i * i // 7)
    if kind == "offset":
        return write(path, codec, container, times=lambda i: i + 45)
    return write(path, codec, container, count=1 if kind == "one" else FRAMES)


VARIANTS = (
    "plain", *(f"trimmed {i}" for i in range(len(TRIMS))), *(f"turned {t}" for t in TURNS),
    "fragmented", "remuxed mp4", "remuxed avi", "remuxed ts", "rate varies", "offset", "one frame",
)  # fmt: skip


def cells() -> Iterator[tuple[str, str, str]]:
    """Yield codec, container and variant of every cell that FFmpeg can write."""
    for codec in CODECS:
        for container in CONTAINERS:
            raw = container == "h264"
            if raw and not codec.startswith("h264"):
                continue
            if container == "webm" and codec not in ("vp8", "vp9", "av1"):
                continue
            if container == "avi" and codec.startswith(("hevc", "vp9", "av1")):
                continue
            if codec == "vp8" and container in ("mp4", "mov", "ts"):
                continue
            if container in ("ts", "mov") and codec in ("vp9", "av1", "mjpeg"):
                continue
            for variant in VARIANTS:
                kind, _, detail = variant.partition(" ")
                if codec == "av1" and kind in ("trimmed", "remuxed"):
                    continue  # PyAV cannot copy its packets
                copied = f"{container} {variant}"
                if copied == "avi remuxed mp4" and not codec.startswith("mpeg2"):
                    continue  # FFmpeg's command adds a filter that PyAV does not
                if copied == "ts remuxed mp4" and codec.startswith("mpeg4"):
                    continue  # the same
                if kind == "fragmented" and container not in ("mp4", "mov"):
                    continue
                if kind == "turned" and container not in ("mp4", "mov", "mkv"):
                    continue
                if kind == "remuxed" and (detail == container or detail not in _SOURCES[codec]):
                    continue
                if raw and kind not in ("plain", "one", "remuxed"):
                    continue
                yield codec, container, variant


_SOURCES = {
    codec: (
        ("mp4", "avi", "ts")
        if codec.startswith(("h264", "mpeg"))
        else ("mp4", "ts")
        if codec.startswith("hevc")
        else ("avi",)
        if codec == "vp8"
        else ("mp4",)
    )
    for codec in CODECS
}


def covering() -> Iterator[tuple[str, str, str]]:
    """Yield fewer cells: each codec in each container, and in each variant."""
    for codec in CODECS:
        mine = [cell for cell in cells() if cell[0] == codec]
        used = Counter({container: 0 for _, container, _ in mine})
        for variant in dict.fromkeys(variant for _, _, variant in mine):
            there = [c for _, c, v in mine if v == variant]
            container = min(there, key=lambda c: used[c])
            used[container] += 1
            yield codec, container, variant
        yield from ((codec, container, "plain") for container, count in used.items() if not count)


def sequential(path: Path) -> list[np.ndarray]:
    """Return all pictures as plain decoding from the start gives them, turned by hand."""
    pictures: list[np.ndarray] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                assert not pictures
                continue
            pictures += [
                np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in frames
            ]
    return pictures


def compare(path: Path, reader: str, truth: list[np.ndarray]) -> str:
    """Return ``equal``, or why the reader refuses; raise AssertionError if a picture is wrong."""
    count = len(truth)
    draw = np.random.default_rng(count)
    if reader == "all_frames":
        shown = list(all_frames(path))
        assert [p.number for p in shown] == list(range(count))
        assert all(np.array_equal(p.image, t) for p, t in zip(shown, truth, strict=True))
        assert all(a.time < b.time for a, b in itertools.pairwise(shown))
        return "equal"
    several = sorted({*range(0, count, 9), count - 1})
    asked = [list(range(count)), several, draw.integers(0, count, 7).tolist()]
    for indices in [*asked, *([i] for i in (0, count // 2, 2 * count // 3, count - 1))]:
        try:
            found = read_frames(path, indices, reader)
        except VideoError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            return re.sub(r"\[.*", "", str(error).replace(str(path), "").lstrip(": "))
        pairs = zip(indices, found, strict=True)
        wrong = [i for i, image in pairs if not np.array_equal(image, truth[i])]
        assert not wrong, f"{path}: {reader}, asked for {indices}: wrong {wrong}"
    return "equal"


def table() -> str:
    """Return the cells tried, equal and refused, by codec and reader, as Markdown."""
    tried: Counter[str] = Counter()
    equal: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    for codec, container, variant in cells():
        with tempfile.TemporaryDirectory() as folder:
            path = make(Path(folder), codec, container, variant)
            truth = sequential(path)
            tried[codec] += 1
            for reader in READERS:
                answer = compare(path, reader, truth)
                equal[codec, reader] += answer == "equal"
                reasons[f"{reader}: {answer}"] += answer != "equal"
    head = ["codec", "cells", *(f"{name}: equal, refused" for name in READERS)]
    lines = [head, ["---"] * len(head)]
    for codec, count in tried.items():
        found = [f"{equal[codec, r]}, {count - equal[codec, r]}" for r in READERS]
        lines.append([codec, str(count), *found])
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    why = [f"| {reason} | {n} |" for reason, n in sorted(reasons.items()) if n]
    return "\n".join([*rows, "", "| refused because | cells |", "|---|---|", *why, ""])


if __name__ == "__main__":
    sys.stdout.write(table())
