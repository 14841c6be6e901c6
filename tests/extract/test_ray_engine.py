"""Extraction on a local Ray cluster of two processor cores: the content of the local engine."""

import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from extraction_world import (
    LABELS,
    SmallTeacher,
    eventually,
    failures_of,
    make_world,
    open_world,
    settings,
)
from skelfew_extract.cli import main
from skelfew_extract.engines import ray_cluster
from skelfew_extract.engines.ray_cluster import Cluster, joined
from skelfew_extract.engines.ray_engine import TeacherFactory, extract_on, teacher_card
from skelfew_extract.extract import extract
from skelfew_extract.windows import Card
from torch import Tensor

from skelfew.cache import CacheWriter, TeacherCache
from skelfew.errors import SkelfewError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips, of which one is an empty file."""
    root = make_world(tmp_path_factory.mktemp("world"), 8)
    (root / "videos" / "clip_005.mp4").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    before = set(descendants())  # decoders that other tests keep
    room = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: sockets are in it
    Path(room, "token").write_text(secrets.token_hex(32))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_TMPDIR", room)
        patch.setenv("RAY_worker_niceness", "0")  # else all other tests come first
        patch.setenv("RAY_AUTH_TOKEN_PATH", f"{room}/token")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))
        patch.setattr(os, "cpu_count", lambda: 2)
        patch.chdir(room)
        with joined() as found:
            yield found
            started = set(descendants()) - before
    assert eventually(lambda: not started & set(processes()), 240), "processes are left behind"
    shutil.rmtree(room, ignore_errors=True)


class Mortal(SmallTeacher):
    """A teacher whose process is killed at the first clips that any copy of it sees."""

    def __init__(self, marker: Path):
        super().__init__()
        self.marker = marker

    def encode_clips(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        if not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_clips(frames)


def processes() -> dict[int, int]:
    """Return the processes that run on this machine, and their parents."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found


def descendants() -> dict[int, int]:
    """Return those that this one or descendants of it have started, and their parents."""
    running, found = processes(), dict[int, int]()
    while new := {
        p: q for p, q in running.items() if p not in found and q in {os.getpid(), *found}
    }:
        found |= new
    return {p: q for p, q in found.items() if "resource_tracker" not in command(p)}


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def waits_for(pid: int) -> str:
    """Return in which call of the kernel a process sleeps, "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return ""


def kill_the_decoder_of(hanging: Path, content: bytes, killed: list[str]) -> None:
    """Kill Ray's process whose decoding process hangs at a named pipe; then fix that."""

    def kill() -> bool:
        found = descendants()
        for waiting in (p for p in found if "partner" in waits_for(p)):
            killed.append(command(found[waiting]))
            os.kill(found[waiting], signal.SIGKILL)
        return bool(killed)

    eventually(kill, 240)
    end = os.open(hanging, os.O_RDWR | os.O_NONBLOCK)  # lets the orphan go on, and end
    hanging.unlink()
    hanging.write_bytes(content)
    os.close(end)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/wchan").exists(), reason="no /proc to see processes in")
def test_interrupted_and_with_processes_killed_it_ends_in_the_same_content(
    world: Path, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings, how = open_world(world), settings(batch=2, timeout=30)
    local = extract(recordings, SmallTeacher(), tmp_path / "local" / "spots.zarr", how)
    assert (local.done, local.failed) == (7, 1)

    out, write = tmp_path / "ray" / "spots.zarr", CacheWriter.write
    factory = TeacherFactory.from_here(
        partial(Mortal, tmp_path / "marker"), cluster.choose_device("auto")
    )
    card = teacher_card(factory, list(LABELS.values()))
    (tmp_path / "marker").touch()  # in the first run no teacher dies

    def write_and_interrupt(self: CacheWriter, *block: object) -> None:
        write(self, *block)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CacheWriter, "write", write_and_interrupt)
        extract_on(cluster, recordings, factory, card, out, how)
    begun = TeacherCache.open(out)
    assert len(begun) + len(begun.failed) == 2, "one window"

    (tmp_path / "marker").unlink()
    row = next(i for i in (0, 2, 6) if f"clip_{i:03d}" not in begun.row)
    hanging, killed = world / "videos" / f"clip_{row:03d}.mp4", list[str]()
    content = hanging.read_bytes()
    hanging.unlink()
    os.mkfifo(hanging)
    killer = threading.Thread(target=kill_the_decoder_of, args=(hanging, content, killed))
    killer.start()
    summary = extract_on(cluster, recordings, factory, card, out, how)
    killer.join()
    assert len(killed) == 1 and "_decode" in killed[0] and (tmp_path / "marker").exists()
    assert (summary.done, summary.failed, summary.pending) == (7, 1, 0)
    assert summary.extracted == 7 - len(begun)
    assert summary.digest == local.digest
    assert failures_of(out) == failures_of(Path(local.cache)) and "clip_005" in failures_of(out)
    again = extract(recordings, SmallTeacher(), out, how)
    assert again.extracted == 0, "the local engine goes on with it, and the other way round"


def test_failures_on_a_node_are_one_line(world: Path, cluster: Cluster, tmp_path: Path) -> None:
    def build() -> SmallTeacher:
        raise SkelfewError("weights.pth: no such file")

    with pytest.raises(SkelfewError, match=r"^weights.pth: no such file$"):
        teacher_card(TeacherFactory.from_here(build, "cpu"), ["wave"])
    with pytest.raises(SkelfewError, match=r"^/nowhere: cannot be entered on the node"):
        teacher_card(TeacherFactory(SmallTeacher, "cpu", Path("/nowhere"), 1), ["wave"])
    elsewhere = replace(open_world(world), videos=tmp_path / "videos")
    factory = TeacherFactory.from_here(SmallTeacher, "cpu")
    card = Card.of(SmallTeacher(), list(LABELS.values()))
    with pytest.raises(SkelfewError, match=rf"^{tmp_path}/videos: no such folder .* on the node"):
        extract_on(cluster, elsewhere, factory, card, tmp_path / "spots.zarr", settings())


def test_workers_import_nothing_from_the_working_folder(cluster: Cluster) -> None:
    remote = ray_cluster.ray.remote(lambda: [os.path.realpath(path) for path in sys.path])
    paths = ray_cluster.ray.get(remote.remote())
    assert os.environ["RAY_TMPDIR"] not in paths and os.sep in paths


def test_what_a_cluster_is_too_small_for(cluster: Cluster) -> None:
    assert (cluster.cpus, cluster.gpus, cluster.nodes) == (2, 0, 1)
    assert cluster.teachers("cpu") == cluster.default_workers("cpu") == 1
    with pytest.raises(SkelfewError, match=r"--device cuda: the Ray cluster at .* has no GPU"):
        cluster.choose_device("cuda")
    with pytest.raises(SkelfewError, match="--device cuda:1: Ray picks a GPU"):
        cluster.choose_device("cuda:1")
    with pytest.raises(SkelfewError, match="has 1 processor cores, but 2 are needed"):
        Cluster("it", 1, 1, 0).choose_device("auto")
    assert Cluster("it", 1, 1, 4).choose_device("auto") == "cuda"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:1", "no Ray cluster can be joined there .*refused"),
        ("nonsense", "no Ray cluster can be joined there"),
        ("ray://127.0.0.1:10001", "the only writer must be on a node"),
    ],
)
def test_a_wrong_address(address: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(SkelfewError, match=f"RAY_ADDRESS {address}: {why}"), joined():
        pass


def test_without_ray_the_command_says_what_to_install(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "skelfew_extract.engines.ray_cluster")
    result = CliRunner().invoke(main, ["spots", "--videos", "videos", "--engine", "ray"])
    assert result.exit_code == 1
    assert result.output == (
        "error: --engine ray needs ray, which is not installed; pip install 'skelfew[ray]'\n"
    )
