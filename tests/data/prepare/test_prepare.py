import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from own_world import solid
from warm import Warm

from skelfew.data import readers
from skelfew.data.manifest import Manifest, Sample
from skelfew.data.prepare.walk import Outputs, Prepared, prepare
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.store import Skeleton, SkeletonStore
from skelfew.errors import SkelfewError

UCLA = {"zero_joints": "interpolate"}


def clip(action: int, subject: int, frames: int = 6) -> tuple[str, str]:
    label = {8: 7, 9: 8, 11: 9, 12: 10}.get(action, action)
    rng = np.random.default_rng([action, subject])
    joints = rng.uniform(1, 2, (frames, 20, 3)).round(4).tolist()
    name = f"a{action:02}_s{subject:02}_e01_v01"
    return f"{name}.json", json.dumps({"file_name": name, "label": label, "skeletons": joints})


CLIPS = dict(clip(a, s) for a in (12, 1, 8) for s in (10, 2, 9, 1))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw" / "all_sqe"
    folder.mkdir(parents=True)
    for name, text in CLIPS.items():
        (folder / name).write_text(text)
    return tmp_path / "raw"


def outputs(folder: Path) -> Outputs:
    return Outputs(folder / "manifests" / "mine.csv", folder / "data" / "mine.h5")


def run(raw: Path, folder: Path, workers: int = 1, **options: str) -> Prepared:
    return prepare("nw-ucla", RawFolder(raw), outputs(folder), {**UCLA, **options}, workers)


def everything(folder: Path) -> dict[str, bytes]:
    """All files that do not depend on the machine; HDF5 files by their digest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".h5":
            with SkeletonStore(path) as store:
                found[path.name] = store.content_digest().encode() + b" ".join(
                    f"{k}={v}".encode() for k, v in sorted(store.attrs.items())
                )
        elif path.suffix == ".csv":
            found[path.name] = path.read_bytes()
    return found


def test_a_folder_becomes_a_manifest_and_a_store(raw: Path, tmp_path: Path) -> None:
    prepared = run(raw, tmp_path)
    manifest = Manifest.read(tmp_path / "manifests" / "mine.csv")
    assert manifest.ids == sorted(name.removesuffix(".json") for name in CLIPS)
    assert manifest == prepared.manifest or manifest.samples == prepared.manifest.samples
    with SkeletonStore(tmp_path / "data" / "mine.h5") as store:
        assert store.ids == manifest.ids
        for name, text in CLIPS.items():
            expected = np.array(json.loads(text)["skeletons"], np.float32)
            np.testing.assert_array_equal(store[name.removesuffix(".json")].positions[0], expected)
        assert store.attrs["manifest_sha256"] == manifest.sha256
        assert store.attrs["dataset"] == "mine" and store.attrs["units"] == "metres"
        assert json.loads(str(store.attrs["options"])) == UCLA
        assert store.attrs["digest"] == store.content_digest() == prepared.digest
    local = json.loads((tmp_path / "manifests" / "mine.local.json").read_text())
    assert local == {"raw": str(raw), "videos": str(raw)}
    assert not (tmp_path / "data" / "mine.parts").exists()


def test_zip_folder_of_zip_and_folder_give_the_same(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "zips").mkdir()
    archive = tmp_path / "zips" / "all_sqe.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__MACOSX/all_sqe/._a01_s01_e01_v01.json", "resource fork")
        for name, text in CLIPS.items():
            file.writestr(f"all_sqe/{name}", text)
    results = []
    for i, path in enumerate((raw, archive, archive.parent)):
        prepared = run(path, tmp_path / str(i))
        results.append((prepared.manifest.sha256, prepared.digest))
    assert len(set(results)) == 1


def test_the_number_of_processes_changes_nothing(raw: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        run(raw, tmp_path / str(workers), workers)
    assert everything(tmp_path / "1") == everything(tmp_path / "3")


def test_what_cannot_be_used_is_listed_and_nothing_is_lost(raw: Path, tmp_path: Path) -> None:
    folder = raw / "all_sqe"
    (folder / "a01_s03_e01_v01.json").write_text("{")
    name, text = clip(1, 4)
    (folder / name).write_text(text.replace("1.", "NaN, 1.", 1).replace("NaN, 1.", "NaN;"))
    name, text = clip(1, 5)
    document = json.loads(text)
    document["skeletons"][3][7][1] = float("nan")
    (folder / name).write_text(json.dumps(document))
    name, text = clip(1, 6)
    document = json.loads(text)
    document["skeletons"] = np.zeros((5, 20, 3)).tolist()
    (folder / name).write_text(json.dumps(document))
    (raw / "copy").mkdir()
    name, text = clip(8, 9)
    (raw / "copy" / name).write_text(text)
    (folder / clip(2, 1, frames=1)[0]).write_text(clip(2, 1, frames=1)[1])

    prepared = run(raw, tmp_path)
    assert len(prepared.manifest) == len(CLIPS) + 1
    assert prepared.damaged == 5
    table = pd.read_csv(outputs(tmp_path).dropped)
    assert list(table.columns) == ["sample_id", "source", "reason"]
    reasons = dict(zip(table.sample_id, table.reason, strict=True))
    assert len(table) == len(reasons) == 5
    assert reasons["a01_s06_e01_v01"] == "no body in any of 5 frames"
    assert "not a skeleton in JSON" in reasons["a01_s03_e01_v01"]
    assert reasons["a01_s05_e01_v01"] == "not finite: NaN or infinity in 1 frames, first 3"
    assert "all_sqe/a08_s09_e01_v01.json has the same" in reasons["a08_s09_e01_v01"]
    notes = pd.read_csv(outputs(tmp_path).notes)
    assert notes.note.tolist() == ["one frame only"]


def test_nothing_usable_is_an_error_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(SkelfewError, match="no recordings of nw-ucla"):
        run(tmp_path, tmp_path)
    (tmp_path / "a01_s01_e01_v01.json").write_text("{")
    with pytest.raises(SkelfewError, match=r"none of 1 recordings .*not a skeleton in JSON"):
        run(tmp_path, tmp_path)
    assert len(pd.read_csv(outputs(tmp_path).dropped)) == 1
    assert not outputs(tmp_path).manifest.exists() and not outputs(tmp_path).store.exists()


def test_an_unreadable_zip_is_an_error_and_a_damaged_member_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK nothing")
    with pytest.raises(SkelfewError, match="neither a folder nor a readable zip"):
        RawFolder(path)
    with pytest.raises(SkelfewError, match="no such file or folder"):
        RawFolder(tmp_path / "nowhere")
    path.unlink()
    (tmp_path / "y.zip").write_bytes(b"PK nothing")
    with pytest.raises(SkelfewError, match=r"y\.zip: unreadable zip file"):
        run(tmp_path, tmp_path)
    (tmp_path / "y.zip").unlink()

    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, text in list(CLIPS.items())[:3]:
            file.writestr(name, text)
    content = path.read_bytes()
    broken = list(CLIPS)[1]
    at = content.index(CLIPS[broken].encode()[:60]) + 200
    path.write_bytes(content[:at] + b"#" + content[at + 1 :])
    prepared = run(path, tmp_path)
    assert len(prepared.manifest) == 2
    ((dropped,)) = prepared.dropped
    assert dropped.source == broken and "Bad CRC" in dropped.reason


def test_older_results_stay_until_the_new_ones_are_complete(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path)
    before = everything(tmp_path)
    for path in (raw / "all_sqe").iterdir():
        path.write_text("{")
    with pytest.raises(SkelfewError):
        run(raw, tmp_path)
    after = everything(tmp_path)
    assert after["mine.csv"] == before["mine.csv"] and after["mine.h5"] == before["mine.h5"]

    messages: list[str] = []
    name, text = clip(3, 3)
    (raw / "all_sqe" / name).write_text(text)
    prepare("nw-ucla", RawFolder(raw), outputs(tmp_path), UCLA, 1, messages.append)
    assert Manifest.read(outputs(tmp_path).manifest).ids == ["a03_s03_e01_v01"]
    assert [m for m in messages if "mine.csv: exists; it will be replaced" in m]


def test_two_runs_on_one_name_do_not_meet(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (
        FileLock(tmp_path / "data" / ".mine.lock"),
        pytest.raises(SkelfewError, match="another skelfew-prepare"),
    ):
        run(raw, tmp_path)


# --- resuming


def unfinished(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Run until ``after`` sources are read, then fail."""
    import skelfew.data.prepare.parts as parts

    done, real = 0, parts.read_block

    def read_block(*args: object) -> None:
        nonlocal done
        if done == after:
            raise KeyboardInterrupt
        done += 1
        real(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(parts, "read_block", read_block)
        with pytest.raises(KeyboardInterrupt):
            run(raw, tmp_path)


def test_a_run_goes_on_where_it_was_interrupted(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished(raw, tmp_path / "b", monkeypatch, after=7)
    run(raw, tmp_path / "a")
    assert not outputs(tmp_path / "b").manifest.exists()
    messages: list[str] = []
    # Blocks that are done are not read again.
    read = set(sorted(CLIPS)[:7])
    for name in read:
        content = (raw / "all_sqe" / name).read_bytes()
        (raw / "all_sqe" / name).write_bytes(b"#" * len(content))
    prepare("nw-ucla", RawFolder(raw), outputs(tmp_path / "b"), UCLA, 1, messages.append)
    assert any("going on; 7 of 12 blocks are done" in m for m in messages)
    assert everything(tmp_path / "a") == everything(tmp_path / "b")


@pytest.mark.parametrize("change", ["option", "file", "more files"])
def test_parts_of_other_options_or_recordings_are_thrown_away(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    unfinished(raw, tmp_path / "b", monkeypatch, after=7)
    options = {"zero_joints": "keep" if change == "option" else "interpolate"}
    if change == "file":
        (raw / "all_sqe" / sorted(CLIPS)[0]).write_text(clip(1, 1, frames=9)[1])
    if change == "more files":
        name, text = clip(2, 2)
        (raw / "all_sqe" / name).write_text(text)
    messages: list[str] = []
    prepare("nw-ucla", RawFolder(raw), outputs(tmp_path / "b"), options, 1, messages.append)
    assert any("starting anew" in m for m in messages)
    run(raw, tmp_path / "a", **options)
    assert everything(tmp_path / "a") == everything(tmp_path / "b")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for subject in range(1, 60):
        for action in (1, 2, 3, 4):
            # Long enough that reading takes seconds: there must be time left to be killed in.
            name, text = clip(action, subject, frames=200)
            (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def undisturbed(many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(many, folder)
    return everything(folder)


def command(python: str, raw: Path, folder: Path, workers: int) -> "subprocess.Popen[str]":
    target = outputs(folder)
    arguments = ["--raw", raw, "--out", target.manifest, "--data", target.store]
    arguments += ["--workers", workers]
    code = "from skelfew.cli.prepare import main; main()"
    return subprocess.Popen(
        [python, "-c", code, "nw-ucla", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def blocks_done(folder: Path, at_least: int) -> Iterator[float]:
    """Wait until so many blocks are done."""
    for _ in range(3000):
        if sum(1 for _ in outputs(folder).parts.glob("*.json")) >= at_least:
            return
        yield time.sleep(0.01) or 0.01
    raise AssertionError("no block was done in 30 s")


@pytest.mark.parametrize(("workers", "kill"), [(1, "SIGKILL"), (2, "SIGINT")])
def test_a_killed_process_goes_on_with_equal_result(
    warm: Warm, many: Path, undisturbed: dict[str, bytes], tmp_path: Path, workers: int, kill: str
) -> None:
    # Ctrl-C at a terminal reaches all processes of a group, which the warm Python is not part of.
    python = sys.executable if kill == "SIGINT" else warm.python
    process = command(python, many, tmp_path / "b", workers)
    list(blocks_done(tmp_path / "b", 1))
    if kill == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if kill == "SIGINT" else -signal.SIGKILL)
    if kill == "SIGINT":
        assert err.splitlines()[-1] == "interrupted; run the same command again to go on"
        assert "Traceback" not in err
    assert not outputs(tmp_path / "b").manifest.exists()

    process = command(warm.python, many, tmp_path / "b", workers)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "going on" in err
    assert everything(tmp_path / "b") == undisturbed


# --- one's own reader


def test_a_bug_in_a_reader_names_the_source(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "clumsy_reader_for_tests"
    monkeypatch.setitem(sys.modules, module, sys.modules[__name__])
    monkeypatch.setitem(readers.READERS, "clumsy", f"{module}:CLUMSY")
    with pytest.raises(RuntimeError, match="third: ZeroDivisionError: division by zero"):
        prepare("clumsy", RawFolder(raw), outputs(tmp_path), {}, 1)


def _clumsy(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    if source == "third":
        1 / 0  # noqa: B018
    skeleton = Skeleton(np.ones((1, 4, 20, 3), np.float32))
    yield Recording(Sample(source, 1, "x", 4), skeleton)


CLUMSY = Reader("clumsy", "kinect-v1", lambda raw, options: ["first", "second", "third"], _clumsy)


def test_an_interrupted_run_goes_on_only_with_the_same_table(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        np.save(f"mine/{name}.npy", solid())
    table = Path("mine/t.csv")
    table.write_text("recording,label\n" + "".join(f"{n}.npy,sit\n" for n in "abc"))
    options = {**readers.load_reader("own").defaults, "table": "t.csv", "layout": "rig.toml"}
    outputs = Outputs(home / "t.csv", home / "t.h5")
    lines: list[str] = []
    raw = RawFolder(home / "mine")
    whole = prepare("own", raw, outputs, options).digest
    outputs.manifest.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def fails_after_reading() -> None:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr("skelfew.data.prepare.walk.Manifest.write", full)
            prepare("own", raw, outputs, options, log=lines.append)

    fails_after_reading()
    lines.clear()
    assert prepare("own", raw, outputs, options, log=lines.append).digest == whole
    assert any("3 of 3 blocks are done" in line for line in lines)
    fails_after_reading()
    table.write_text(table.read_text().replace("a.npy,sit", "a.npy,run"))
    lines.clear()
    again = prepare("own", raw, outputs, options, log=lines.append)
    assert any("starting anew" in line for line in lines)
    assert again.manifest["a"].label == "run"
