"""Names out of files of others: joined by one function, which a walk through the code shows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from skelfew.errors import SkelfewError
from skelfew.io.paths import below, fault

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("skelfew", "pipeline/skelfew_extract")
# What is on the left of a slash that joins paths; other slashes divide numbers.
_PATH = re.compile(
    r"(path|folder|root|parent|place|new|scratch|videos|dir|store|target|runs?|Path\(.*\)|FOLDER"
    r"|SHIPPED|REPOSITORY|PACKAGE|with_name\(.*\)|/ '[^']*')\)?$"
)
# Joined names that are ours or the user's own words on the command line, by file.
OURS = {
    "skelfew/cache/format/plain.py": {"self._key(chunk)"},
    "skelfew/cache/format/storage.py": {"array.path", "key"},
    "skelfew/cache/tools/repair.py": {"key"},  # chunk keys of checked arrays
    "skelfew/cache/transport/fetch.py": {"place.key", "name"},
    "skelfew/cli/explain.py": {
        "f'{file_name(explanations[0].sample.sample_id)}-{file_name(stem)}'"},
    "skelfew/cli/reproduce.py": {"request.table.id"},
    "skelfew/cli/demo.py": {"name"},  # of a table in it
    "skelfew/cli/show.py": {"f'{file_name(sample_id)}.png'"},
    "skelfew/cli/train.py": {"name"},
    "skelfew/data/facts.py": {"name", "kind", "f'_{kind}'"},
    "skelfew/data/find.py": {"f'{dataset}.csv'"},
    "skelfew/data/prepare/parts.py": {"f'{block:05}.h5'", "f'{block:05}.json'"},
    "skelfew/data/readers/own.py": {"str(options['table'])"},
    "skelfew/data/readers/raw.py": {"archive"},
    "skelfew/encoders/features.py": {"f'{key[:16]}.safetensors'"},
    "skelfew/evaluation/zeroshot.py": {"f'encoder.{stage}.safetensors'"},
    "skelfew/io/paths.py": {"name"},
    "skelfew/io/vouched.py": {"f'{name}.json'"},  # a hash
    "skelfew/report/page.py": {"name"},
    "skelfew/reproduce/document.py": {
        "f'{request.table.id}.jsonl'", "f'{path.stem}.md'", "page.name", "f'{name}.jsonl'",
        "f'{name}.md'"},
    "skelfew/reproduce/plan.py": {"request.table.id"},
    "skelfew/training/loop.py": {"f'best.{self.stage.name}.safetensors'"},
    "skelfew/training/run.py": {"f'encoder.{stage.name}.safetensors'"},
    "skelfew/training/stages/bridge.py": {"f'bridge.{stage}.safetensors'"},
    "pipeline/skelfew_extract/cli.py": {"f'{dataset}.csv'", "f'{dataset}.zarr'", "f'{dataset}.h5'"},
    "pipeline/skelfew_extract/demoworld/reader.py": {"f'{source}.mp4'"},
    "pipeline/skelfew_extract/pose.py": {"f'{stem}.task'"},
    "pipeline/skelfew_extract/video_reader.py": {"table", "loose[0]"},
    "pipeline/skelfew_extract/preview.py": {"f'{file_name(sample_id)}.png'"},
    "pipeline/skelfew_extract/teachers/sentence.py": {"name"},
    "pipeline/skelfew_extract/weight_files.py": {
        "variant.name", "variant.file", "f'{variant.name}.safetensors'", "name", "SENTENCES",
        "f'{name}.index.json'", "f'{variant.file}.pth'", "f'{variant.name}{end}'"},
    "skelfew/cli/evaluate.py": {"name"},
    "skelfew/io/known.py": {"f'{hashlib.sha256(asked.encode()).hexdigest()[:20]}.json'"},
}  # fmt: skip


def joins(source: str) -> Iterator[str]:
    """Yield what is joined to a path, but literals and constants, however it is joined."""

    def fixed(node: ast.expr) -> bool:
        name = getattr(node, "id", getattr(node, "attr", ""))
        return isinstance(node, ast.Constant) or name.strip("_").isupper()

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            left = ast.unparse(node.left)
            text = isinstance(node.right, ast.JoinedStr) or "str(" in ast.unparse(node.right)
            if (text or _PATH.search(left)) and not fixed(node.right):
                yield ast.unparse(node.right)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.endswith((".joinpath", "path.join")) or (
                called.endswith("Path") and len(node.args) > 1
            ):
                yield from (ast.unparse(a) for a in node.args[1:] or node.args if not fixed(a))


@pytest.mark.parametrize("folder", FOLDERS)
def test_foreign_names_are_joined_in_one_place(folder: str) -> None:
    found = {
        (file, name)
        for path in (REPOSITORY / folder).rglob("*.py")
        for name in joins(path.read_text())
        if name not in OURS.get(file := path.relative_to(REPOSITORY).as_posix(), ())
    }
    assert not found, "join foreign names with skelfew.io.paths.below"


@pytest.mark.parametrize(
    "line",
    [
        "videos / sample.video", "(folder / 'a') / info.filename", "Path('data') / f'{name}.h5'",
        "self.path / member", "os.path.join(folder, name)", "folder.joinpath(name)",
        "Path(folder, name)", "root / str(name)", "path.with_name('x') / name",
    ],
)  # fmt: skip
def test_the_walk_sees_joins(line: str) -> None:
    assert list(joins(line))


HOSTILE = [
    "", "/", "/etc/x", "//x", "a//b", "a//abs/olute/evil.pth", "a/", "./a", "a/./b", "../a",
    "a/../b", "..", ".", "a\\b", "..\\a", "C:/x", "c:x", "a/C:", "a\nb", "a\0b", "a\x1b[2Jb",
    "a\u2028b", "a\u202eb", "\ud800", "x" * 256, "ä" * 128, "/".join("a" * 65),
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_names_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SkelfewError, match=r"refused, it must lie below"):
        below(tmp_path, name)


@pytest.mark.parametrize(
    "name", ["a", "a/b.c", "...", "..a", "a b", "ä/ö\u3000", "x" * 255, "12:30.avi"]
)
def test_other_names_are_joined(name: str, tmp_path: Path) -> None:
    assert fault(name) is None
    assert below(tmp_path, name) == tmp_path / name


def test_links_are_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    (tmp_path / "in" / "round").symlink_to("round")
    for name in ("out", "out/x"):
        with pytest.raises(SkelfewError, match="link"):
            below(tmp_path / "in", name)
        assert below(tmp_path / "in", name, links=True) == tmp_path / "in" / name
