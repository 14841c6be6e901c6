"""The teacher cache: what is stored, what is refused, and what survives a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from small_caches import DIM, GOLDEN, GOLDEN_DIGEST, PROVENANCE, features, filled, ids, writer
from warm import Warm
from zarr.codecs import ZstdCodec

from skelfew.cache import DONE, FAILED, CacheError, CacheWriter, TeacherCache, content_digest
from skelfew.cache.format.zips import write_zip
from skelfew.cache.tools.verify import verify

# What is read is what was written


def test_round_trip(path: Path) -> None:
    filled(path, failed=(3,), class_text=np.eye(2, DIM))
    cache = TeacherCache.open(path)
    assert len(cache) == 9 and cache.failed == ("sample_00003",) and cache.pending == 0
    assert cache.attrs["teacher"] == PROVENANCE["teacher"] and cache.attrs["complete"] is True
    assert cache.video is not None and cache.video.dtype == cache.text.dtype == np.float32
    np.testing.assert_array_equal(cache.class_text, np.eye(2, DIM))
    (row,) = cache.rows(["sample_00007"])
    np.testing.assert_array_equal(cache.video[row], features(10, 1)[7].astype(np.float16))
    np.testing.assert_array_equal(cache.text[row], features(10, 2)[7].astype(np.float16))


def test_targets(path: Path) -> None:
    filled(path, dtype="float32")
    cache = TeacherCache.open(path)
    wanted = ["sample_00004", "sample_00001"]
    video, text = features(10, 1)[[4, 1]], features(10, 2)[[4, 1]]
    np.testing.assert_array_equal(cache.targets(wanted, "f_v"), video)
    np.testing.assert_array_equal(cache.targets(wanted, "f_t"), text)
    np.testing.assert_array_equal(cache.targets(wanted), video + text)
    unit = cache.targets(wanted, "f_v+f_t", "unit")
    expected = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (video, text)]
    np.testing.assert_allclose(unit, expected[0] + expected[1], rtol=1e-6)
    with pytest.raises(CacheError, match="f_v\\+f_t, f_v, f_t"):
        cache.targets(wanted, "f_x")
    with pytest.raises(CacheError, match="raw or unit"):
        cache.targets(wanted, form="normed")  # type: ignore[arg-type]


def test_a_teacher_without_video(path: Path) -> None:
    with writer(path, 2, video=False) as cache:
        cache.write(slice(0, 2), None, features(2), np.array([DONE, DONE]))
        cache.finish()
    cache_read = TeacherCache.open(path)
    assert cache_read.video is None and cache_read.representations == ("f_t",)
    with pytest.raises(CacheError, match="this cache has f_t"):
        cache_read.targets(ids(2))


def test_missing_samples_are_counted_and_named(path: Path) -> None:
    filled(path, failed=(3,))
    with pytest.raises(CacheError, match=r"2 of 3 samples .* first sample_00003 \(1 failed.*world"):
        TeacherCache.open(path).rows(["sample_00000", "sample_00003", "other"])


def test_reader_sees_only_committed_rows(path: Path) -> None:
    with writer(path) as cache:
        cache.write(np.array([2, 5]), features(2), features(2), np.array([DONE, FAILED]))
        seen = TeacherCache.open(path)
        assert list(seen.row) == ["sample_00002"] and seen.pending == 8
        assert cache.pending().tolist() == [0, 1, 3, 4, 6, 7, 8, 9]
        assert cache.pending(retry_failed=True).tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9]


def test_a_reader_beside_a_writing_process_sees_whole_rows(warm: Warm, path: Path) -> None:
    """Opened again and again while another process writes; every row that shows is right."""
    code = KILLED.format(tests=str(Path(__file__).parents[0]))
    command = [warm.python, "-c", code, str(path)]
    expected = [features(3000, seed).astype(np.float16).astype(np.float32) for seed in (1, 2)]
    counts = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        while process.poll() is None:
            seen = TeacherCache.open(path)
            rows = [int(sample_id[-5:]) for sample_id in seen.row]
            assert seen.video is not None
            np.testing.assert_array_equal(seen.video, expected[0][rows])
            np.testing.assert_array_equal(seen.text, expected[1][rows])
            counts.append(len(rows))
            time.sleep(0.05)
    assert process.returncode == 0
    assert counts == sorted(counts) and len({c for c in counts if 0 < c < 2970}) > 1


# The digest


def test_digest_depends_on_content_alone(path: Path, tmp_path: Path) -> None:
    digest = filled(path, 2500, failed=(8,), class_text=np.eye(2, DIM))
    assert content_digest(path) == digest == TeacherCache.open(path).attrs["digest"]
    write_zip(path, tmp_path / "c.zarr.zip")
    assert content_digest(tmp_path / "c.zarr.zip") == digest

    other = tmp_path / "rechunked.zarr"
    shutil.copytree(path, other)
    group: Any = zarr.open_group(other, mode="r+")
    for name in ("video", "text"):
        values = group[name][:]
        del group[name]
        codec = ZstdCodec(level=3)
        group.create_array(name, data=values, chunks=(100, 1, DIM), compressors=codec)
    assert content_digest(other) == digest
    np.testing.assert_array_equal(TeacherCache.open(other).text, TeacherCache.open(path).text)

    in_blocks = tmp_path / "blocks.zarr"
    with writer(in_blocks, 2500, class_text=np.eye(2, DIM)) as cache:
        for start in range(0, 2500, 7):
            rows = np.arange(start, min(start + 7, 2500))
            status = np.where(rows == 8, FAILED, DONE)
            cache.write(rows, features(2500, 1)[rows], features(2500, 2)[rows], status)
        assert cache.finish() == digest


@pytest.mark.parametrize("change", ["video", "text", "status", "class_text", "sample"])
def test_digest_sees_every_change(tmp_path: Path, change: str) -> None:
    base, other = tmp_path / "a.zarr", tmp_path / "b.zarr"
    digest = filled(base, class_text=np.eye(2, DIM))
    shutil.copytree(base, other)
    group: Any = zarr.open_group(other, mode="r+")
    name, row, value = {
        "video": ("video", 4, 1.0),
        "text": ("text", 4, 1.0),
        "status": ("status", 4, FAILED),
        "class_text": ("class_text", 1, 0.5),
        "sample": ("sample_id", 4, "sample_x"),
    }[change]
    group[name][row] = value
    assert content_digest(other) != digest


def test_writing_removes_the_old_digest(path: Path, tmp_path: Path) -> None:
    filled(path, failed=(3,))
    with writer(path) as cache:
        row = np.array([3])
        cache.write(row, features(10, 1)[row], features(10, 2)[row], np.array([DONE]))
        assert "digest" not in TeacherCache.open(path).attrs
        repaired = cache.finish()
    assert repaired == filled(tmp_path / "whole.zarr")


# Resuming


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("manifest_sha256", {"manifest_sha256": "f" * 64}),
        ("teacher.weights_sha256", {"teacher": {**PROVENANCE["teacher"], "weights_sha256": "d"}}),
        (r"teacher.mean\[1\]", {"teacher": {**PROVENANCE["teacher"], "mean": [0.1, 0.5, 0.3]}}),
        ("teacher.precision", {"teacher": {**PROVENANCE["teacher"], "precision": "float32"}}),
        ("preprocessing.margin", {"preprocessing": {"crop": "joints", "margin": 0.2}}),
        (r"classes\[0\].prompt", {"classes": [{**PROVENANCE["classes"][0], "prompt": "to wave"},
                                              PROVENANCE["classes"][1]]}),
    ],
)  # fmt: skip
def test_resume_refuses_what_differs(path: Path, key: str, change: dict[str, Any]) -> None:
    filled(path)
    before = content_digest(path)
    with pytest.raises(CacheError, match=f"made with {key} = .*, but this run has ") as error:
        writer(path, provenance={**PROVENANCE, **change})
    assert str(path) in str(error.value)
    assert content_digest(path) == before


def test_resume_refuses_other_shapes_and_samples(path: Path) -> None:
    filled(path)
    with pytest.raises(CacheError, match="shape"):
        writer(path, views=2)
    with pytest.raises(CacheError, match='dtype = "float16", but this run has "float32"'):
        writer(path, dtype="float32")
    with pytest.raises(CacheError, match="other samples"):
        CacheWriter.create_or_resume(path, ids(10)[::-1], dim=DIM, provenance=PROVENANCE)


def test_what_is_only_for_the_record_may_differ(path: Path) -> None:
    filled(path)
    with writer(path, provenance={**PROVENANCE, "software": {"torch": "9"}}) as cache:
        assert cache.resumed and len(cache.pending()) == 0


def test_strays_of_a_killed_run_are_swept(path: Path, tmp_path: Path) -> None:
    (tmp_path / "c.zarr.partial" / "video").mkdir(parents=True)  # killed while creating
    digest = filled(path)
    assert not (tmp_path / "c.zarr.partial").exists()
    stray = path / "video" / "c.0.0.0.1234.partial"
    stray.write_bytes(b"half a chunk")
    with writer(path) as cache:
        assert not stray.exists()
        assert cache.finish() == digest


def test_the_second_writer_learns_who_is_writing(warm: Warm, path: Path) -> None:
    with writer(path):
        code = (
            "import sys\nfrom skelfew.cache import *\n"
            "try:\n    CacheWriter.create_or_resume(sys.argv[1], ['a'], dim=1, provenance={})\n"
            "except CacheError as error:\n    print(error)\n"
        )
        message = subprocess.run(
            [warm.python, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        assert f"process {os.getpid()} on " in message.stdout and "writing" in message.stdout
    writer(path).close()  # released


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_unusable_features_are_never_committed(path: Path, value: float) -> None:
    text = features(10)
    text[6, 0, 2] = value  # 1e6 is infinite as float16
    with writer(path) as cache:
        with pytest.raises(CacheError, match=r"text feature of \S+ is not finite"):
            cache.write(slice(0, 10), features(10), text, np.full(10, DONE))
        status = np.where(np.arange(10) == 6, FAILED, DONE)
        cache.write(slice(0, 10), features(10), text, status)
    assert len(TeacherCache.open(path)) == 9


KILLED = """
import sys
sys.path[:0] = [{tests!r}, {tests!r} + "/.."]
import numpy as np
from small_caches import features, writer
from pathlib import Path
with writer(Path(sys.argv[1]), 3000) as cache:
    video, text = features(3000, 1), features(3000, 2)
    print("writing", flush=True)
    for start in range(0, 3000, 20):
        rows = np.arange(start, start + 20)
        if (cache.status[rows] == 0).any():
            cache.write(rows, video[rows], text[rows], np.where(rows % 100 == 7, 2, 1))
    print(cache.finish(), flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_in_the_same_content(warm: Warm, tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parents[0]))
    command = [warm.python, "-c", code, str(tmp_path / "killed.zarr")]
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        time.sleep(rng.uniform(0.01, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    resumed = subprocess.run(command, capture_output=True, text=True, check=True)
    command[-1] = str(tmp_path / "whole.zarr")
    whole = subprocess.run(command, capture_output=True, text=True, check=True)
    assert resumed.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]
    assert len(TeacherCache.open(tmp_path / "killed.zarr")) == 2970


# What is refused when opened


def test_what_is_not_a_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="no such cache; create it with skelfew-extract"):
        TeacherCache.open(tmp_path / "absent.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(CacheError, match="not a Zarr"):
        TeacherCache.open(tmp_path / "empty.zarr")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(CacheError, match="not a Zarr"):
        TeacherCache.open(tmp_path / "text.zip")
    zarr.open_group(tmp_path / "other.zarr", mode="w", zarr_format=3)
    with pytest.raises(CacheError, match="but not a skelfew-teacher-cache"):
        TeacherCache.open(tmp_path / "other.zarr")
    zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2)
    with pytest.raises(CacheError, match="not a Zarr format 3"):
        TeacherCache.open(tmp_path / "old.zarr")


def test_nan_in_a_done_row_names_the_sample(path: Path) -> None:
    filled(path)
    zarr.open_group(path, mode="r+")["text"][4, 0, 1] = np.nan  # type: ignore[index]
    with pytest.raises(CacheError, match="text feature of sample_00004 is not finite"):
        TeacherCache.open(path)


def test_a_truncated_chunk_is_an_error_of_one_line(path: Path) -> None:
    filled(path)
    chunk = path / "video" / "c.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(CacheError, match="damaged"):
        TeacherCache.open(path)
    chunk.unlink()  # absent chunks read as NaN
    with pytest.raises(CacheError, match="video feature of sample_00000"):
        TeacherCache.open(path)


@pytest.mark.parametrize(
    "damage", ["rows", "many", "width", "chunk", "codec", "dtype", "missing", "json"]
)
def test_lying_metadata_is_refused_in_little_memory(path: Path, damage: str) -> None:
    filled(path)
    huge, pickled = 10**12, {"name": "numcodecs.pickle", "configuration": {}}
    for name in ("sample_id", "status", "video", "text"):
        file = path / name / "zarr.json"
        metadata = json.loads(file.read_text())
        tail, is_text = metadata["shape"][1:], name == "text"
        grid = {"name": "regular", "configuration": {"chunk_shape": [huge, *tail]}}
        changes: dict[str, dict[str, Any]] = {
            "rows": {"shape": [huge, *tail]},
            "many": {"shape": [300_000, *tail]},  # within the bounds; the IDs are not there
            "width": {"shape": [10, 1, huge]} if tail else {},
            "chunk": {"shape": [huge, *tail], "chunk_grid": grid},
            "codec": {"codecs": [pickled, *metadata["codecs"]]} if is_text else {},
            "dtype": {"data_type": "float64"} if is_text else {},
        }
        file.write_text(json.dumps({**metadata, **changes.get(damage, {})}))
    if damage == "missing":
        shutil.rmtree(path / "status")
    elif damage == "json":
        (path / "text" / "zarr.json").write_text("{")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
    code = limit + (
        "import sys\nfrom skelfew.cache import *\n"
        "try:\n    TeacherCache.open(sys.argv[1])\nexcept CacheError as error:\n    print(error)\n"
    )
    message = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert message.returncode == 0, message.stderr[-500:]
    assert str(path) in message.stdout and len(message.stdout.splitlines()) == 1


# Stores written by version 1 are read for ever


@pytest.mark.parametrize("name", ["plain.zarr", "packed.zarr.zip"])
def test_golden_store_of_version_1(name: str) -> None:
    cache = TeacherCache.open(GOLDEN / name)
    assert cache.attrs["format_version"] == 1 and cache.attrs["dataset"] == "golden"
    assert list(cache.row) == ["sample_00000", "sample_00001", "übung 3"]
    assert cache.failed == ("sample_00002",) and cache.pending == 1
    expected = np.arange(12, dtype=np.float32).reshape(3, 1, 4) / 8
    np.testing.assert_array_equal(cache.targets(list(cache.row), "f_v"), expected)
    np.testing.assert_array_equal(cache.targets(list(cache.row), "f_t"), -expected)
    np.testing.assert_array_equal(cache.class_text, np.eye(2, 4))
    assert content_digest(GOLDEN / name) == cache.attrs["digest"] == GOLDEN_DIGEST


def test_golden_store_without_video() -> None:
    """Version 1 with all that was added to it: two views, no f_v, steps, a shard."""
    cache = TeacherCache.open(GOLDEN / "text.zarr")
    assert list(cache.row) == ["a 1", "b-2", "ü3"] and cache.pending == 1
    assert cache.video is None and cache.representations == ("f_t",)
    expected = np.arange(24, dtype=np.float32).reshape(3, 2, 4) / 8
    np.testing.assert_array_equal(cache.targets(list(cache.row), "f_t"), expected)
    assert cache.attrs["shard"] == {"index": 1, "of": 2}
    assert [step["name"] for step in cache.attrs["provenance:steps"]] == ["extract"]
    digest = "6695a6958ceb14f2b5878b5c329ba9d1f536e54ed0e9f3359cae51f87d7920c2"
    assert content_digest(GOLDEN / "text.zarr") == cache.attrs["digest"] == digest


@pytest.mark.parametrize("version", [0, -1, 2, 99, "1", 1.0, True, None])
def test_unknown_versions_are_refused(path: Path, version: object) -> None:
    filled(path)
    group = json.loads((path / "zarr.json").read_text())
    group["attributes"]["format_version"] = version
    (path / "zarr.json").write_text(json.dumps(group))
    wanted = "upgrade skelfew" if version in (2, 99) else "expected a number from 1"
    for read in (TeacherCache.open, content_digest):
        with pytest.raises(CacheError, match=wanted):
            read(path)
    if version == 2:
        with pytest.raises(CacheError, match=wanted):
            writer(path)


def test_verify_of_a_cache_without_a_finished_row(tmp_path: Path) -> None:
    with writer(tmp_path / "c.zarr"):
        pass
    report = verify(tmp_path / "c.zarr")
    assert (report["pending"], report["problems"]) == (10, [])
