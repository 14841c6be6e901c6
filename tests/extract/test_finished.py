"""An extraction with nothing to do loads no network; one that differs takes the ordinary way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from extraction_world import make_world
from skelfew_extract import extract
from skelfew_extract.cli import main
from skelfew_extract.weight_files import SHIPPED

from skelfew.errors import SkelfewError

SEEN = ["spots", "--videos", "videos", "--teacher", "xclip-demo"]
READ = ["spots", "--teacher", "text", "--out", "cache/read.zarr"]
HEAVY = {"torch", "open_clip", "transformers", "av", "decord", "pandas"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose caches of both kinds are complete."""
    root = make_world(tmp_path_factory.mktemp("finished"), count=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for arguments in (SEEN, READ):
            done = CliRunner().invoke(main, arguments)
            assert done.exit_code == 0, done.stderr
    return root


@pytest.mark.parametrize(
    "arguments",
    [SEEN, READ, [*SEEN, "--limit", "2"], [*SEEN, "--weights", "copy/any.safetensors"]],
    ids=["video", "text", "limit", "weights"],
)
def test_nothing_to_do_loads_nothing(root: Path, arguments: list[str]) -> None:
    (root / "copy").mkdir(exist_ok=True)
    shutil.copy(SHIPPED / "xclip-demo.safetensors", root / "copy/any.safetensors")
    code = (
        "import sys\nfrom skelfew_extract.cli import main\n"
        f"try: main({[*arguments, '--json']!r})\n"
        f"finally: print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "[]\n", done.stderr
    found = json.loads(done.stdout)
    assert (found["done"], found["extracted"], found["pending"]) == (4, 0, 0)


def damage(cache: Path) -> None:
    (chunk,) = (cache / "video").glob("c*0")
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)


def fail_one(cache: Path) -> None:
    from skelfew.cache.format.storage import open_group

    open_group(cache, mode="r+")["status"][1] = 2


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        (["--margin", "0.2"], None),
        (["--crop", "centre"], None),
        (["--views", "2"], None),
        (["--store-dtype", "float32"], None),
        (["--precision", "bfloat16"], None),
        (["--untrained"], None),
        (["--weights", "other.safetensors"], None),
        (["--teacher", "xclip-base-patch16", "--untrained"], None),
        (["--repair"], None),
        ([], damage),
        (["--retry-failed"], fail_one),
    ],
)
def test_anything_else_takes_the_ordinary_way(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    change: object,
) -> None:
    monkeypatch.chdir(root)
    cache = tmp_path / "spots.zarr"
    shutil.copytree("cache/spots.zarr", cache)
    Path("other.safetensors").write_bytes(b"other weights")
    if callable(change):
        change(cache)

    def built(*_: object, **__: object) -> None:
        raise SkelfewError("the teacher is built")

    monkeypatch.setattr(extract, "build_chosen", built)
    done = CliRunner().invoke(main, [*SEEN, "--out", str(cache), *arguments])
    assert done.exit_code == 1 and "the teacher is built" in done.stderr, done.output
