"""What a run folder of somebody else may not do."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from skelfew.config import InputConfig, preset
from skelfew.io.files import check_picture
from skelfew.runs.folder import Run, RunError


@pytest.mark.parametrize(
    "place", ["log.txt", "metrics.jsonl.partial", "results", "features", "explain/a.png", "config.json"]
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


@pytest.mark.parametrize("key", ["cache", "manifest", "store", "init", "more_caches"])
@pytest.mark.parametrize(
    "address", ["https://e.org/c.zarr", "ssh://h/c.zarr", "s3://b/c", "//host/share", "\\\\host\\c"]
)
def test_a_recorded_run_names_no_address(tmp_path: Path, key: str, address: str) -> None:
    run = Run.create("m", path=tmp_path / "run")
    given = (address,) if key == "more_caches" else address
    inputs = replace(InputConfig(dataset="m", cache="c.zarr"), **{key: given})  # type: ignore[arg-type]
    run.write_config(replace(preset("paper"), inputs=inputs))
    with pytest.raises(RunError, match=rf"config\.json: inputs\.{key} is .* an address"):
        Run.open(run.path).config()


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
