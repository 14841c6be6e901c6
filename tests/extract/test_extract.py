"""From videos to a cache: right values, failures on record, the same content after any kill."""

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extraction_world import LABELS, SmallTeacher, failures_of, make_world, open_world, settings
from skelfew_extract.crop import CropSettings
from skelfew_extract.engines.decode_worker import decode_clip
from skelfew_extract.extract import choose_precision, extract
from skelfew_extract.recordings import Recordings
from skelfew_extract.shard import Shard
from torch import Tensor
from warm import Warm

from skelfew.cache import CacheError, TeacherCache, content_digest
from skelfew.cache.format.history import steps_of
from skelfew.cache.tools.merge import merge
from skelfew.data.manifest import Manifest
from skelfew.errors import SkelfewError

pytestmark = pytest.mark.usefixtures("kept_decoders")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache made in one uninterrupted run."""
    out = tmp_path_factory.mktemp("cache") / "spots.zarr"
    extract(open_world(world), SmallTeacher(), out, settings())
    return out


def copy_of(world: Path, target: Path) -> Path:
    """Return a copy of the world whose videos are links, so that they can be damaged singly."""
    for file in world.rglob("*.*"):
        if file.is_file():
            place = target / file.relative_to(world)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, place)
    return target


def test_features_are_the_teachers(world: Path, tmp_path: Path) -> None:
    recordings, teacher, out = open_world(world), SmallTeacher(), tmp_path / "spots.zarr"
    summary = extract(recordings, teacher, out, settings(store_dtype="float32", batch=8))
    assert (summary.done, summary.failed, summary.pending, summary.extracted) == (20, 0, 0, 20)
    cache = TeacherCache.open(out)
    assert summary.digest == cache.attrs["digest"] == content_digest(out)
    text = teacher.encode_text(list(LABELS.values()))
    np.testing.assert_array_equal(cache.class_text, text.numpy())
    for row in (0, 7, 19):
        _, clip = decode_clip(recordings.task(row), settings().decode)
        assert clip is not None
        f_v, context = teacher.encode_clips(torch.from_numpy(clip)[None])
        f_t = teacher.condition(text[[row % 3]], context)
        sample = [f"clip_{row:03d}"]
        np.testing.assert_allclose(cache.targets(sample, "f_v")[0], f_v.numpy(), rtol=1e-4)
        np.testing.assert_allclose(cache.targets(sample, "f_t")[0], f_t.numpy(), rtol=1e-4)
    assert len(np.unique(cache.text[:, 0, 0])) > 3, "f_t is per sample, not per class"


def test_provenance(whole: Path, world: Path) -> None:
    attrs = TeacherCache.open(whole).attrs
    recordings = open_world(world)
    assert recordings.skeletons is not None
    assert attrs["dataset"] == "spots" and attrs["complete"] is True
    assert attrs["manifest_sha256"] == recordings.manifest.sha256
    assert attrs["skeletons_digest"] == recordings.skeletons.attrs["digest"]
    assert attrs["teacher"] == SmallTeacher().describe() and attrs["untrained"] is False
    assert attrs["classes"][1] == {"class_id": 2, "label": "kick", "prompt": "kick"}
    assert attrs["preprocessing"]["size"] == 32 and attrs["preprocessing"]["margin"] == 0.15
    assert attrs["software"]["torch"].startswith("2") and attrs["created"]


def test_a_row_depends_on_no_other(world: Path, whole: Path, tmp_path: Path) -> None:
    damaged = copy_of(world, tmp_path / "world")
    for i in (1, 4, 5, 6):
        (damaged / "videos" / f"clip_{i:03d}.mp4").unlink()
    out = tmp_path / "spots.zarr"
    summary = extract(open_world(damaged), SmallTeacher(), out, settings())
    assert summary.failed == 4
    rest, reference = TeacherCache.open(out), TeacherCache.open(whole)
    for form in ("f_v", "f_t"):
        samples = list(rest.row)
        np.testing.assert_array_equal(rest.targets(samples, form), reference.targets(samples, form))


def test_failures_are_recorded_and_repaired(world: Path, whole: Path, tmp_path: Path) -> None:
    damaged, out = copy_of(world, tmp_path / "world"), tmp_path / "spots.zarr"
    videos = [damaged / "videos" / f"clip_{i:03d}.mp4" for i in range(20)]
    content = [video.read_bytes() for video in videos]
    for i in (2, 3, 8, 11):
        videos[i].unlink()
    videos[3].touch()
    videos[8].write_bytes(content[8][: len(content[8]) // 2])
    os.mkfifo(videos[11])
    recordings = open_world(damaged)
    summary = extract(recordings, SmallTeacher(), out, settings(timeout=3))
    assert (summary.done, summary.failed, summary.pending) == (16, 4, 0)
    reasons = failures_of(out)
    assert summary.failures == str(out.with_name("spots.failures.csv"))
    assert {stage for stage, _ in reasons.values()} == {"decode"}
    for i, cause in [(2, "No such file"), (3, "empty file"), (8, ""), (11, "timed out after 3 s")]:
        message = reasons[f"clip_{i:03d}"][1]
        assert str(videos[i]) in message and cause in message
    assert set(TeacherCache.open(out).failed) == set(reasons)

    again = extract(recordings, SmallTeacher(), out, settings(timeout=3))
    assert again.extracted == 0 and again.failed == 4 and failures_of(out) == reasons

    videos[11].unlink()
    for i in (2, 3, 8, 11):
        videos[i].write_bytes(content[i])
    repaired = extract(recordings, SmallTeacher(), out, settings(retry_failed=True))
    assert (repaired.extracted, repaired.failed) == (4, 0)
    assert not out.with_name("spots.failures.csv").exists()
    assert repaired.digest == content_digest(whole)


def test_a_video_shorter_than_its_segment_is_truncated(world: Path, tmp_path: Path) -> None:
    recordings = open_world(world)
    longer = [replace(s, end_frame=60) if i == 4 else s for i, s in enumerate(recordings.manifest)]
    long = Recordings(Manifest("spots", tuple(longer)), recordings.skeletons, recordings.videos)
    out = tmp_path / "spots.zarr"
    assert extract(long, SmallTeacher(), out, settings(limit=8)).failed == 1
    assert "frames 0 to 60, but the video has 24" in failures_of(out)["clip_004"][1]


def test_samples_without_video_or_joints_fail_alone(world: Path, tmp_path: Path) -> None:
    recordings = open_world(world)
    fewer = [replace(s, video="") if i == 1 else s for i, s in enumerate(recordings.manifest)]
    fewer[2] = replace(fewer[2], sample_id="stranger")  # has a video, but no skeleton
    odd = Recordings(Manifest("spots", tuple(fewer)), recordings.skeletons, recordings.videos)
    out = tmp_path / "a" / "spots.zarr"
    assert extract(odd, SmallTeacher(), out, settings(limit=4)).failed == 2
    reasons = failures_of(out)
    assert reasons["clip_001"] == ("manifest", "the sample has no video")
    assert reasons["stranger"][0] == "crop" and "joints-or-centre" in reasons["stranger"][1]
    decode = replace(settings().decode, crop=CropSettings(8, 32, policy="joints-or-centre"))
    centred = replace(settings(limit=4), decode=decode)
    summary = extract(odd, SmallTeacher(), tmp_path / "b" / "spots.zarr", centred)
    assert (summary.failed, summary.centred) == (1, 1)


class Overflowing(SmallTeacher):
    """A teacher of which some features are not finite and some too large for half precision."""

    def condition(self, text: Tensor, context: Tensor) -> Tensor:
        result = super().condition(text, context)
        result[1, 3], result[2, 0] = float("nan"), 1e5
        return result


def test_features_that_are_not_numbers_are_failures(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "spots.zarr"
    summary = extract(open_world(world), Overflowing(), out, settings(limit=4))
    assert (summary.done, summary.failed) == (2, 2)
    assert failures_of(out) == {
        "clip_001": ("encode", "not finite"),
        "clip_002": ("encode", "too large for float16; --store-dtype float32 holds it"),
    }


def test_limits_add_up_to_the_whole(world: Path, whole: Path, tmp_path: Path) -> None:
    out, recordings = tmp_path / "spots.zarr", open_world(world)
    first = extract(recordings, SmallTeacher(), out, settings(limit=6))
    assert (first.done, first.pending) == (6, 14)
    assert TeacherCache.open(out).attrs["complete"] is False
    rest = extract(recordings, SmallTeacher(), out, settings())
    assert (rest.extracted, rest.pending) == (14, 0)
    assert rest.digest == content_digest(whole)


def test_shards_of_several_machines_are_the_whole(world: Path, whole: Path, tmp_path: Path) -> None:
    """Whatever the batch size of each machine, and although the parts cut through a batch."""
    recordings, parts = open_world(world), []
    for index in (1, 2, 3):
        shard = Shard(index, 3)
        parts.append(shard.out(tmp_path / "spots.zarr"))
        done = extract(recordings, SmallTeacher(), parts[-1], settings(shard=shard))
        first, stop = shard.rows(20)
        assert done.done == stop - first and done.pending == 20 - done.done
        again = extract(recordings, SmallTeacher(), parts[-1], settings(shard=shard))
        assert again.extracted == 0
    assert parts[1].name == "spots.shard-2-of-3.zarr"
    with pytest.raises(CacheError, match="one shard of an extraction, skelfew-cache merge"):
        TeacherCache.open(parts[1]).rows(recordings.manifest.ids)
    merged = merge(parts, tmp_path / "spots.zarr")
    assert merged["digest"] == content_digest(whole) and merged["pending"] == 0
    attrs = TeacherCache.open(tmp_path / "spots.zarr").attrs
    assert "shard" not in attrs and [s["name"] for s in steps_of(attrs)] == ["extract", "merge"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "a/b", "-1/3"])
def test_shards_that_make_no_sense(text: str) -> None:
    with pytest.raises(SkelfewError, match="expected i/n"):
        Shard.parse(text)


def test_resume_refuses_another_teacher_or_crop(world: Path, tmp_path: Path) -> None:
    out, recordings = tmp_path / "spots.zarr", open_world(world)
    extract(recordings, SmallTeacher(), out, settings(limit=4))
    with pytest.raises(CacheError, match=r'teacher.weights = "seed 0", but this run has "seed 1"'):
        extract(recordings, SmallTeacher(1), out, settings())
    decode = replace(settings().decode, crop=CropSettings(8, 32, margin=0.3))
    with pytest.raises(CacheError, match=r"preprocessing.margin = 0.15, but this run has 0.3"):
        extract(recordings, SmallTeacher(), out, replace(settings(), decode=decode))


RUN = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
from extraction_world import SmallTeacher, open_world, settings
from skelfew_extract.extract import extract

if __name__ == "__main__":
    torch.set_num_threads(1)
    print("loaded", flush=True)
    recordings, how = open_world(Path(sys.argv[1])), settings(timeout=float(sys.argv[3]))
    summary = extract(recordings, SmallTeacher(), Path(sys.argv[2]), how)
    print(summary.digest, summary.extracted)
"""


def run(script: list[str], world: Path, out: Path, timeout: float = 60) -> subprocess.Popen[str]:
    command = [*script, str(world), str(out), str(timeout)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def script(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("script") / "run.py"
    path.write_text(RUN.format(tests=str(Path(__file__).parent)))
    return [warm.python, str(path)]


def committed(out: Path) -> int:
    try:
        return len(TeacherCache.open(out))
    except CacheError:
        return 0


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_in_the_same_content(
    world: Path, whole: Path, script: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "spots.zarr"
    draw, reached = np.random.default_rng(0), []
    for goal in (0, 4, 12):  # kill after so many rows, and a random moment more
        process = run(script, world, out)
        assert process.stdout is not None and process.stdout.readline() == "loaded\n"
        while committed(out) < goal and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        reached.append(committed(out))
    assert reached == sorted(reached) and reached[-1] >= 12
    stdout, stderr = run(script, world, out).communicate()
    digest, extracted = stdout.splitlines()[-1].split()
    assert digest == content_digest(whole) == content_digest(out), stderr
    assert int(extracted) == 20 - reached[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_commits_the_block(
    world: Path, script: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    damaged, out = copy_of(world, tmp_path / "world"), tmp_path / "spots.zarr"
    slow = damaged / "videos" / "clip_006.mp4"
    slow.unlink()
    os.mkfifo(slow)  # the second block waits for this clip until it times out
    process = run(script, damaged, out, timeout=3)
    while committed(out) < 4 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert "stopping after this block" in stderr and "KeyboardInterrupt" in stderr
    cache = TeacherCache.open(out)
    # Asked between two blocks it stops there, asked in the second it finishes that.
    found = (len(cache), cache.failed, cache.pending)
    assert found in ((4, (), 16), (7, ("clip_006",), 12))


# What is refused before a video is opened


def test_recordings_that_do_not_fit(world: Path, tmp_path: Path) -> None:
    manifest, data, videos = (world / p for p in ("manifests/spots.csv", "data/spots.h5", "videos"))
    with pytest.raises(SkelfewError, match="no such folder of videos; name it with --videos"):
        Recordings.open(manifest, data, tmp_path / "nowhere")
    with pytest.raises(SkelfewError, match=r"spots.local.json: absent.*--videos"):
        Recordings.open(manifest, data, None)
    read = Manifest.read(manifest)
    fewer = tmp_path / "spots.csv"
    Manifest("spots", read.samples[:5]).write(fewer)
    with pytest.raises(SkelfewError, match="belongs to another manifest"):
        Recordings.open(fewer, data, videos)
    Manifest("spots", tuple(replace(s, video="") for s in read)).write(fewer)
    with pytest.raises(SkelfewError, match="no sample has a video"):
        Recordings.open(fewer, data, videos)


def test_the_noted_folder_of_videos_is_found(world: Path, tmp_path: Path) -> None:
    manifest = copy_of(world, tmp_path) / "manifests" / "spots.csv"
    note = manifest.with_name("spots.local.json")
    note.write_text(f'{{"videos": "{tmp_path}/videos"}}')
    assert Recordings.open(manifest, tmp_path / "data/spots.h5", None).videos.name == "videos"
    for broken in ("{", "[]", "{}", '{"videos": 3}'):
        note.write_text(broken)
        with pytest.raises(SkelfewError, match=r"spots.local.json.*--videos"):
            Recordings.open(manifest, tmp_path / "data/spots.h5", None)


def test_precision() -> None:
    assert choose_precision("float32", "cpu", 768) == "float32"
    assert choose_precision("bfloat16", "cpu", 768) == "bfloat16"
    assert choose_precision("auto", "cpu", 128) == "float32"
    flags: Any = set(Path("/proc/cpuinfo").read_text().split()) if os.name == "posix" else set()
    expected = "bfloat16" if {"avx512_bf16", "amx_bf16"} & flags else "float32"
    assert choose_precision("auto", "cpu", 768) == expected
