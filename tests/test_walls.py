"""The walls of docs/architecture.md: who may import whom, and what --help may load.

How fast --help is, benchmarks/startup.py measures.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TRAINER = REPOSITORY / "skelfew"
EXTRACTOR = REPOSITORY / "pipeline" / "skelfew_extract"
VIDEO_SIDE = {
    "skelfew_extract",
    "decord",
    "av",
    "open_clip",
    "torchvision",
    "transformers",
    "mediapipe",
}
# What the extractor may use of the trainer's package.
OPEN_ROOMS = (
    "errors",
    "fields",
    "registry",
    "io",
    "config",
    "cache",
    "data",
    "progress",
    "cli.common",
    "cli",
)
HEAVY = {
    "torch",
    "zarr",
    "h5py",
    "pandas",
    "numpy",
    "decord",
    "av",
    "mediapipe",
    "open_clip",
    "torchvision",
    "transformers",
    "rich",
    "PIL",
    "matplotlib",
    "captum",
    "ray",
}

COMMANDS = sorted(e.name for e in entry_points(group="console_scripts") if "skelfew" in e.value)


def imports(path: Path) -> Iterator[str]:
    """All imported module names of a file, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; spell the package out"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(folder: Path, forbidden: set[str], allowed: set[Path] = frozenset()) -> list[str]:  # type: ignore[assignment]
    return [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in sorted(folder.rglob("*.py"))
        if path not in allowed
        for name in imports(path)
        if name.split(".")[0] in forbidden
    ]


def test_trainer_never_reaches_the_video_side() -> None:
    assert len(list(TRAINER.rglob("*.py"))) > 20
    assert offenders(TRAINER, VIDEO_SIDE) == []


def test_zarr_stands_behind_one_file() -> None:
    allowed = {TRAINER / "cache" / "format" / "storage.py"}
    for folder in (TRAINER, EXTRACTOR):
        assert offenders(folder, {"zarr"}, allowed) == []


def test_h5py_stands_behind_three_files() -> None:
    """What may be opened at all, skeleton stores, and the feature files of others."""
    allowed = {TRAINER / "data" / n for n in ("hdf5.py", "store.py")}
    allowed.add(TRAINER / "cache" / "tools" / "foreign_hdf5.py")
    for folder in (TRAINER, EXTRACTOR):
        assert offenders(folder, {"h5py"}, allowed) == []


def test_captum_and_matplotlib_stand_behind_a_file_each() -> None:
    room = TRAINER / "explain"
    assert offenders(TRAINER, {"captum"}, {room / "attribution.py"}) == []
    assert offenders(TRAINER, {"matplotlib"}, {room / "heatmap.py"}) == []


def test_the_network_stands_behind_four_files() -> None:
    names = ("places.py", "ssh.py", "hub.py")
    allowed = {TRAINER / "cache" / "transport" / name for name in names}
    allowed.add(TRAINER / "encoders" / "hub.py")
    network = {"fsspec", "s3fs", "aiohttp", "paramiko", "huggingface_hub"}
    assert offenders(TRAINER, network, allowed) == []


def test_trackers_stand_behind_one_file() -> None:
    trackers = {"tensorboard", "wandb", "mlflow"}
    assert offenders(TRAINER, trackers, {TRAINER / "training" / "tracking.py"}) == []


def test_decoding_stands_behind_the_readers_of_videos() -> None:
    names = ("frames.py", "video.py", "video_index.py", "camera.py")
    allowed = {EXTRACTOR / name for name in names}
    assert offenders(EXTRACTOR, {"decord", "av"}, allowed) == []


def test_mediapipe_stands_behind_one_file() -> None:
    assert offenders(EXTRACTOR, {"mediapipe"}, {EXTRACTOR / "pose.py"}) == []


def test_ray_stands_behind_one_file() -> None:
    assert offenders(TRAINER, {"ray"}) == []
    assert offenders(EXTRACTOR, {"ray"}, {EXTRACTOR / "engines" / "ray_cluster.py"}) == []


def test_extractor_uses_only_the_open_rooms() -> None:
    bad = [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in sorted(EXTRACTOR.rglob("*.py"))
        for name in imports(path)
        if name.startswith("skelfew.") and not name.removeprefix("skelfew.").startswith(OPEN_ROOMS)
    ]
    assert bad == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_lists_every_command(command: str) -> None:
    assert f"| `{command}` |" in (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str) -> None:
    (entry,) = [e for e in entry_points(group="console_scripts") if e.name == command]
    code = (
        "import sys\nfrom importlib import import_module\n"
        f"command = getattr(import_module({entry.module!r}), {entry.attr!r})\n"
        "try:\n    command(['--help'], prog_name='x')\nexcept SystemExit:\n    pass\n"
        f"print(sorted(set(sys.modules) & {HEAVY!r}), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr.strip().splitlines()[-1] == "[]"
    assert "Usage:" in result.stdout
    assert len(result.stdout.splitlines()) > 8, "a help worth reading has more than a few lines"


def loaded_with(path: Path) -> Iterator[str]:
    """Modules of ours that are imported when a file is: outside functions and type checking."""
    blocks = [ast.parse(path.read_text()).body]
    while blocks:
        for node in blocks.pop():
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                blocks.append(node.orelse)
            elif isinstance(node, ast.If | ast.Try | ast.With):
                blocks += [
                    getattr(node, part) for part in ("body", "orelse") if hasattr(node, part)
                ]


def test_no_module_imports_itself_in_a_circle() -> None:
    modules = {}
    for folder in (TRAINER, EXTRACTOR):
        for path in sorted(folder.rglob("*.py")):
            name = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
            modules[name.removesuffix(".__init__")] = path
    graph = {
        name: {
            other if other in modules else other.rpartition(".")[0] for other in loaded_with(path)
        }
        & set(modules) - {name}
        for name, path in modules.items()
    }
    while free := [name for name, others in graph.items() if not others & set(graph)]:
        for name in free:
            del graph[name]
    assert not graph, f"import each other in a circle, or what does: {sorted(graph)}"
    loose = {path.name for path in TRAINER.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert len(loose) <= 4, loose
