"""The walls of docs/architecture.md: who may import whom, and what --help may load.

How fast --help is, benchmarks/startup.py measures.
"""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TRAINER = REPOSITORY / "skelfew"
EXTRACTOR = REPOSITORY / "pipeline" / "skelfew_extract"
# Packages, and the only files of each of our packages that may import them.
WALLS = {
    "decord av open_clip torchvision transformers mediapipe skelfew_extract": {TRAINER: ()},
    "zarr": {TRAINER: ("cache/format/storage.py",), EXTRACTOR: ()},
    "h5py": {
        TRAINER: (
            *(f"data/{n}.py" for n in ("hdf5", "store", "store_writer")),
            "cache/tools/foreign_hdf5.py",
        ),
        EXTRACTOR: (),
    },
    "captum": {TRAINER: ("explain/attribution.py",)},
    "matplotlib": {TRAINER: ("explain/heatmap.py",)},
    "fsspec s3fs aiohttp paramiko huggingface_hub": {
        TRAINER: (*(f"cache/transport/{n}.py" for n in ("places", "ssh", "hub")), "encoders/hub.py")
    },
    "tensorboard wandb mlflow": {TRAINER: ("training/tracking.py",)},
    "decord av": {EXTRACTOR: ("frames.py", "video.py", "video_index.py", "camera.py")},
    "mediapipe": {EXTRACTOR: ("pose.py",)},
    "ray": {TRAINER: (), EXTRACTOR: ("engines/ray_cluster.py",)},
}
# What the extractor may use of the trainer's package.
OPEN_ROOMS = {"errors", "fields", "registry", "io", "config", "cache", "data", "progress", "cli"}
HEAVY = {"torch", "zarr", "h5py", "pandas", "numpy", "decord", "av", "mediapipe", "open_clip",
         "torchvision", "transformers", "rich", "PIL", "matplotlib", "captum", "ray"}  # fmt: skip
COMMANDS = sorted(e.name for e in entry_points(group="console_scripts") if "skelfew" in e.value)


@cache
def imports(path: Path) -> list[str]:
    """All imported module names of a file, also those inside functions."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; spell the package out"
            found += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


@pytest.mark.parametrize("packages", WALLS)
def test_a_package_is_imported_by_its_files_alone(packages: str) -> None:
    for folder, allowed in WALLS[packages].items():
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
        assert len(files) > 20 and files.keys() >= set(allowed)
        roots = {name: {i.split(".")[0] for i in imports(path)} for name, path in files.items()}
        found = {name for name, imported in roots.items() if imported & set(packages.split())}
        assert found == set(allowed), f"{packages} in {folder.name}"


def test_settings_are_read_without_torch() -> None:
    code = "import sys, skelfew.config as c; [c.preset(p).flat() for p in c.PRESETS]; "
    code += "from skelfew.report.table import quotes; quotes('ntu120', 1); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_class_names_are_unique() -> None:
    names = Counter(
        node.name
        for folder in (TRAINER, EXTRACTOR, REPOSITORY / "tools", REPOSITORY / "benchmarks")
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_extractor_uses_only_the_open_rooms() -> None:
    bad = [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in sorted(EXTRACTOR.rglob("*.py"))
        for name in imports(path)
        if name.startswith("skelfew.") and name.split(".")[1] not in OPEN_ROOMS
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
