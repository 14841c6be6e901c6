"""Decoding in processes: order, bounded memory, and videos that hang or kill their reader."""

import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from extraction_world import eventually
from skelfew_extract.clips import ClipTask, DecodeSettings
from skelfew_extract.crop import CropSettings
from skelfew_extract.engines.decode_worker import decode_clip
from skelfew_extract.engines.pool import decode_clips
from video_files import numbered_video
from warm import Warm

CENTRE = CropSettings(frames=4, size=32, policy="centre")


def how(timeout: float = 60.0) -> DecodeSettings:
    return DecodeSettings(CENTRE, "auto", timeout)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [numbered_video(folder / f"v{i}", 20 + 30 * (i % 3)) for i in range(12)]


def task(row: int, video: Path, frames: int = 20) -> ClipTask:
    return ClipTask(row, f"s{row}", f"s{row}", video, 0, frames)


def pipe_file(folder: Path) -> Path:
    """Return a file whose reader waits for ever: a named pipe without a writer."""
    path = folder / "hangs.mp4"
    os.mkfifo(path)
    return path


@pytest.mark.usefixtures("kept_decoders")
def test_order_and_content(videos: list[Path]) -> None:
    tasks = [task(i, video) for i, video in enumerate(videos)]
    clips = list(decode_clips(tasks, how(), workers=2, ahead=3))
    assert [clip.report.row for clip in clips] == list(range(12))
    for one, clip in zip(tasks, clips, strict=True):
        _, expected = decode_clip(one, how())
        assert clip.pictures is not None and expected is not None
        np.testing.assert_array_equal(clip.pictures, expected)
        assert clip.report.box is not None and not clip.report.joints


def test_it_reads_no_further_ahead_than_asked(videos: list[Path]) -> None:
    drawn: list[int] = []
    before = set(multiprocessing.active_children())

    def tasks() -> Iterator[ClipTask]:
        for i in range(100):
            drawn.append(i)
            yield task(i, videos[i % 12])

    clips = decode_clips(tasks(), how(), workers=1, ahead=5)
    next(clips)
    assert eventually(lambda: len(drawn) == 6)
    time.sleep(0.5)
    assert len(drawn) == 6  # one taken, five ahead
    next(clips)
    assert eventually(lambda: len(drawn) == 7)
    clips.close()
    assert eventually(
        lambda: (
            not any(
                "Spawn" in type(p).__name__ for p in set(multiprocessing.active_children()) - before
            )
        )
    )


def test_a_hanging_video_fails_alone(videos: list[Path], tmp_path: Path) -> None:
    tasks = [task(i, video) for i, video in enumerate(videos[:4])]
    tasks.insert(1, task(9, pipe_file(tmp_path)))
    clips = list(decode_clips(tasks, how(timeout=2), workers=1))
    assert [clip.report.row for clip in clips] == [0, 9, 1, 2, 3]
    failed = clips.pop(1)
    assert failed.pictures is None and failed.report.stage == "decode"
    assert failed.report.message == f"{tmp_path}/hangs.mp4: timed out after 2 s"
    assert all(clip.pictures is not None for clip in clips)


def kill_readers(times: int, after: Callable[[], None]) -> None:
    """Kill the decoding process ``times`` times, each time once it hangs."""
    killed: set[int] = set()
    for _ in range(times):
        assert eventually(lambda: bool(waiting_for_pipe() - killed))
        (pid,) = waiting_for_pipe() - killed
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
        after()


def waiting_for_pipe() -> set[int]:
    """Return the child processes that wait for the other end of a named pipe."""
    children = [child.pid for child in multiprocessing.active_children()]
    channels = {pid: Path(f"/proc/{pid}/wchan") for pid in children if pid is not None}
    return {pid for pid, c in channels.items() if c.exists() and "partner" in c.read_text()}


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/wchan").exists(), reason="no /proc to see a process wait in"
)


@needs_proc
def test_a_clip_whose_process_dies_gets_a_second_chance(videos: list[Path], tmp_path: Path) -> None:
    hanging = pipe_file(tmp_path)

    def repairing() -> None:
        hanging.unlink()
        hanging.write_bytes(videos[0].read_bytes())

    killer = threading.Thread(target=kill_readers, args=(1, repairing))
    killer.start()
    clips = list(decode_clips([task(0, hanging), task(1, videos[1])], how(), workers=1))
    killer.join()
    assert [clip.report.stage for clip in clips] == ["", ""]


@needs_proc
def test_a_clip_whose_process_dies_twice_fails(videos: list[Path], tmp_path: Path) -> None:
    hanging = pipe_file(tmp_path)
    killer = threading.Thread(target=kill_readers, args=(2, lambda: None))
    killer.start()
    clips = list(decode_clips([task(0, hanging), task(1, videos[1])], how(), workers=1))
    killer.join()
    assert clips[0].report.message == f"{hanging}: its decoding process died twice (exit code -9)"
    assert clips[1].pictures is not None


@pytest.mark.usefixtures("kept_decoders")
def test_errors_of_the_task_source_reach_the_caller(videos: list[Path]) -> None:
    def tasks() -> Iterator[ClipTask]:
        yield task(0, videos[0])
        raise OSError("the skeleton store is gone")

    with pytest.raises(OSError, match="store is gone"):
        list(decode_clips(tasks(), how(), workers=1))


ORPHANS = """
import multiprocessing, os, sys
from pathlib import Path
from skelfew_extract.crop import CropSettings
from skelfew_extract.clips import ClipTask, DecodeSettings
from skelfew_extract.engines.pool import decode_clips

if __name__ == "__main__":
    task = ClipTask(0, "s", "s", Path(sys.argv[1]), 0, 20)
    settings = DecodeSettings(CropSettings(4, 32, policy="centre"), "auto", 60)
    clips = decode_clips([task] * 1000, settings, workers=1, ahead=4)
    next(clips)
    print(*[p.pid for p in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), 9)
"""


def test_workers_end_when_their_parent_is_killed(
    warm: Warm, videos: list[Path], tmp_path: Path
) -> None:
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    parent = subprocess.run(
        [warm.python, str(script), str(videos[0])], capture_output=True, text=True
    )
    assert parent.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in parent.stdout.split()]
    assert workers and eventually(lambda: not any(alive(pid) for pid in workers))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
