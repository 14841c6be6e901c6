"""What a run folder of somebody else may not do."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from evaluation_world import make_data, make_run

from skelfew.cli.evaluate import main as evaluate
from skelfew.config import InputConfig, preset
from skelfew.io import vouched
from skelfew.io.files import check_picture
from skelfew.runs import recorded
from skelfew.runs.folder import Run, RunError, read_config
from skelfew.runs.recorded import opens, remember
from skelfew.training.run import resume


@pytest.mark.parametrize(
    "place",
    ["log.txt", "metrics.jsonl.partial", "results", "features", "explain/a.png", "config.json"],
)
def test_links_in_a_run_are_refused(tmp_path: Path, place: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("{}")
    run = Run.create("m", path=tmp_path / "run")
    run.write_config(preset("paper"))
    (run.path / "explain").mkdir()
    path = run.path / place
    path.unlink(missing_ok=True)
    path.symlink_to(victim)
    with pytest.raises(RunError, match="is a symbolic link"):
        Run.open(run.path)
    assert victim.read_text() == "{}"
    link = tmp_path / "link"
    path.unlink()
    run.write_config(preset("paper"))
    link.symlink_to(run.path)
    assert Run.open(link).config() == preset("paper")  # what the user names may be a link


def test_places_that_a_run_may_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, run = tmp_path / "work", tmp_path / "elsewhere" / "run"
    for folder in (work / "data", run, tmp_path / "named"):
        folder.mkdir(parents=True)
    (work / "out").symlink_to(tmp_path)
    (work / "round").symlink_to("round")
    monkeypatch.chdir(work)
    remember(tmp_path / "named" / "x.h5")
    good = [
        "data/x.h5",
        "x.h5",
        str(work / "a" / "b"),
        str(run / "x"),
        str(tmp_path / "named/x.h5"),
    ]
    bad = [
        "../secret", "../../secret", "data/../../x", "/etc/passwd", "/dev/zero", "~/x/../../../y",
        "out/secret", str(run / ".." / "x"), str(tmp_path / "named"), str(tmp_path / "named/y.h5"),
        "a\0b", "\ud800", "round/x", *ADDRESSES,
    ]  # fmt: skip
    assert [p for p in good if not opens(p, run)] == [p for p in bad if opens(p, run)] == []
    assert opens(None, run) and not opens(3, run)
    monkeypatch.setattr(recorded, "_trusted", [True])
    assert all(opens(p, run) for p in bad)


ADDRESSES = [
    "https://e.org/c.zarr", "ssh://h/c.zarr", "s3://b/c", "//host/share", "\\\\host\\c", "file:///x",
]  # fmt: skip


@pytest.mark.parametrize("key", [*recorded.PLACES, "protocol"])
@pytest.mark.parametrize("place", [*ADDRESSES, "/etc/passwd", "../../secret.json"])
def test_a_recorded_run_opens_nothing_unasked(tmp_path: Path, key: str, place: str) -> None:
    """Neither the run gone on with, nor a new one with its settings, nor what scores it."""
    run = Run.create("m", path=tmp_path / "run")
    config = preset("paper")
    if key == "protocol":
        config = replace(config, protocol=place)
    else:
        given = (place,) if key == "more_caches" else place
        inputs = replace(InputConfig(dataset="m", cache="c.zarr"), **{key: given})  # type: ignore[arg-type]
        config = replace(config, inputs=inputs)
    run.write_config(config)
    for action in (resume, lambda path: read_config(path / "config.json")):
        with pytest.raises(
            RunError, match=rf"config\.json: (inputs\.)?{key} is .* opened only if you have"
        ):
            action(run.path)
    used = Run.open(run.path).config().inputs
    assert not getattr(used, key, None) and Run.open(run.path).recorded() == config


def test_scoring_a_run_whose_data_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path / "far")
    monkeypatch.chdir(tmp_path / "far")
    run = make_run(tmp_path / "far")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another user"))
    monkeypatch.setattr(vouched, "_named", set())
    monkeypatch.setattr(recorded, "_trusted", [])
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def score(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(evaluate, ["--run", str(run), "--device", "cpu", *options])
        return done.exit_code, " ".join(done.output.split())

    status, text = score()
    assert status == 1 and "name it with --manifest" in text
    make_data(tmp_path / "work")  # what the user has by that name
    status, text = score()
    assert status == 0 and f"{tmp_path}/far/data/tiny.h5, which is not opened unasked" in text
    assert score("--trust-run")[0] == 0
    monkeypatch.setattr(recorded, "_trusted", [])
    monkeypatch.setattr(vouched, "_named", set())  # another process
    status, text = score()
    assert status == 0 and "not opened" not in text


def test_a_log_moves_no_cursor(tmp_path: Path) -> None:
    run = Run.create("m", path=tmp_path / "run")
    run.log("class a\x1b[2J\u202e", show=False)
    assert (run.path / "log.txt").read_text().rstrip("\n").isprintable()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = (
    b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0\0\0\1\0\0\0\1\x08\0\0\0\0")
    + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"root:x:0:0", ".png"), (b"", ".png"), (PNG[:8] + b"secret", ".png"), (PNG[:-1], ".png"),
        (PNG + b"secret", ".png"), (PNG[:20] + b"?" + PNG[21:], ".png"), (b"GIF89a", ".png"),
        (b"root:x:0:0 <svg", ".svg"), (b"\xff\xfe<svg", ".svg"),
        (b'<?xml version="1.0"?><!ENTITY a "b"><svg/>', ".svg"),
    ],
)  # fmt: skip
def test_a_page_shows_pictures_only(content: bytes, suffix: str) -> None:
    with pytest.raises(ValueError):
        check_picture(content, suffix)


def test_pictures_are_shown() -> None:
    check_picture(PNG, ".png")
    check_picture(b'<?xml version="1.0"?>\n<svg xmlns="x"/>', ".svg")
