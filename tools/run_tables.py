"""make test-tables: the rows of every table of the paper on a small demo world, hardly trained.

Makes the world and what can be made without downloads below FOLDER, has skelfew-reproduce run each
table with budget `tiny` and one seed, and says which rows ran and why others did not. Stopped, it
goes on. The exit status is 1 if a row failed; a row whose weights are absent did not.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stand_in_teachers import MODELS

from skelfew.reproduce.tables import Row, Table, load_table

# Of our own table the rows that have what no other has: class texts and joined caches.
TABLES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("II", "V", "VII", "VIII", "IX", "X", "XI", "XII", "fig6"), ()),
    "evidence-demo": ("texts", "texts-f_t", "still-joined"),
    **dict.fromkeys(("I", "III", "IV", "VI"), ()),
}
STAND_INS = """Stand-ins: X-Florence has the demo teacher's features, exported and imported again;
ImageNet's weights are random ones of torchvision's ResNet-18; ActionCLIP (ViT-B/32) and the models
of open_clip have random weights, those of open_clip also fewer blocks (stand_in_teachers.py)."""
WEIGHTS = "weights/random-resnet18.pth"
_RANDOM = f"""import torch, torchvision
torch.manual_seed(0)
torch.save(torchvision.models.resnet18().state_dict(), "{WEIGHTS}")"""
WORLD = "skelfew-prepare demo --option subjects=5 --option views=2"
# Large towers watch every clip: a folder of its own, with the fewest clips that episodes take.
_TEACHERS = "XII"
_FEW = " --option subjects=3"
_TEACHER = "skelfew-extract demo --teacher xclip-demo"
_TEXT = "skelfew-extract demo --teacher text --out cache/demo-text.zarr"
_NO_MEANING = "skelfew-extract demo --teacher text --untrained --out cache/demo-random.zarr"
_EXPORT = "skelfew-cache export cache/demo.zarr --out demo.npz --overwrite"
_IMPORT = """skelfew-cache import demo.npz --out cache/demo-florence.zarr --overwrite
--manifest manifests/demo.csv --class-text class_text --teacher stand-in --weights none
--preprocessing unknown=yes"""
_MODELS = Path(__file__).with_name("stand_in_teachers.py")
_RESULTS = {"collapsed", "diverged"}  # training came to its end, if not to a good one


def main(folder: Path, names: Sequence[str], jobs: int) -> int:
    """Make what is missing, run the tables, print what came out; return the exit status."""
    if any(name != _TEACHERS for name in names):
        make_world(folder, WORLD)
    if _TEACHERS in names:
        make_world(folder / _TEACHERS, WORLD + _FEW)
        make_teachers(folder / _TEACHERS)
    found: dict[str, list[str]] = {"ran": [], "not run": [], "failed": []}
    for name in names:
        place = folder / _TEACHERS if name == _TEACHERS else folder
        for row, (state, why) in outcomes(place, name, jobs).items():
            found[state].append(f"{name} {row}" + (f": {why}" if why else ""))
    for state, rows in found.items():
        print(f"\n{len(rows)} rows {state}", *rows, sep="\n  ")
    print(f"\n{STAND_INS}")
    return 1 if found["failed"] else 0


def make_world(folder: Path, world: str) -> None:
    """Make clips and what the teachers that come with skelfew say of them."""
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    once(folder, "world", world.split())
    once(folder, "teacher", _TEACHER.split())
    once(folder, "text", _TEXT.split(), optional=True)
    once(folder, "random", _NO_MEANING.split(), optional=True)
    once(folder, "export", _EXPORT.split())
    once(folder, "import", _IMPORT.split())
    once(folder, "weights", [sys.executable, "-c", _RANDOM])


def make_teachers(folder: Path) -> None:
    """Make what random models of the other families say; SigLIP 2 needs the extra ``text``."""
    once(folder, "models", [sys.executable, str(_MODELS), "weights"])
    command = ["skelfew-extract", "demo", "--out"]
    for key in MODELS:
        ours = ["--teacher", f"open_clip:weights/{key}"]
        once(folder, key, [*command, f"cache/demo-{key}.zarr", *ours], optional=key == "siglip2")
    ours = ["--teacher", "actionclip-base-patch32", "--untrained"]
    once(folder, "actionclip", [*command, "cache/demo-actionclip.zarr", *ours])


def once(folder: Path, name: str, command: Sequence[str], optional: bool = False) -> None:
    """Run a command in a folder, unless it has succeeded there before."""
    stamp = folder / f".{name}"
    if stamp.exists():
        return
    print(f"== {' '.join(command)}", file=sys.stderr, flush=True)
    status = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL).returncode
    if status == 0:
        stamp.touch()
    elif not optional:
        sys.exit(status)


def outcomes(folder: Path, name: str, jobs: int) -> dict[str, tuple[str, str]]:
    """Run a table; return for each of its rows ``ran``, ``not run`` or ``failed``, and why."""
    table, rows = load_table(name), TABLES[name]
    command = ["skelfew-reproduce", name, "--dataset", "demo", "--budget", "tiny", "--seeds", "1"]
    command += ["--jobs", str(jobs), "--device", "cpu", "--json"]
    command += [f"--init={key}={WEIGHTS}" for key in table.inits]
    command += ["--rows", ",".join(rows)] if rows else []
    print(f"== {' '.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 3):  # 3: some rows did not run, which the document says
        sys.exit(done.returncode)
    lines = {line["key"]: line for line in json.loads(done.stdout)["rows"]}
    wanted = [row for row in table.rows_for("demo") if not rows or row.key in rows]
    return {row.key: verdict(table, row, lines.get(row.key)) for row in wanted}


def verdict(table: Table, row: Row, line: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return what became of a row, and why, from its part of the document of a table."""
    if line is None:
        return "failed", "nothing came out"
    if why := line["absent"]:
        lacking = row.missing or "; make it with: " in why
        return ("not run" if lacking else "failed"), why
    if accidents := [what for what in line["failed"] if what not in _RESULTS]:
        return "failed", accidents[0]
    if line["failed"]:
        return "ran", ", ".join(line["failed"])
    scored = {result["shots"] for result in line["results"]}
    if absent := sorted(set(table.shots_of(row)) - scored):
        return "failed", f"no {absent[0]}-shot score"
    return "ran", ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(TABLES)} [all]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args()
    if unknown := [name for name in given.tables if name not in TABLES]:
        parser.error(f"no table {unknown[0]}; there are {', '.join(TABLES)}")
    try:
        status = main(given.folder, given.tables or list(TABLES), given.jobs)
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
