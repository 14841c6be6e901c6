"""Start-up: --help of every command against importing torch alone, in one run.

Goals: help answers in under 0.3 s because nothing heavy is loaded for it; `skelfew-cache info` of
a cache as large as that of NTU RGB+D 120 (114,480 rows of 512) answers in under 1 s because it
reads no features; the first batch of `skelfew-train` goes through the encoder within 5 s of typing
the command, with 2,000 samples of 40 frames; the stages up to there are printed.
Usage: python benchmarks/startup.py [--rounds 7] [--json]
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path

from support.large_world import NAME, provenance, write_features, write_skeletons
from support.rows import options, report

ROWS, DIM, SAMPLES, FRAMES = 114_480, 512, 2000, 40
STAGES = ("imports", "inputs found", "skeletons and encoder", "batch through the encoder", "step")
# Writes when each of STAGES was over, in seconds since BEGAN, and ends skelfew-train.
FIRST_BATCH = """
import json, os, time

over = []

def mark():
    over.append(time.time() - float(os.environ["BEGAN"]))

def marked(function):
    def call(*arguments, **options):
        result = function(*arguments, **options)
        mark()
        return result
    return call

from skelfew.cli.train import main
from skelfew.training import run as training
from skelfew.encoders.backbone import SkeletonGCN
from skelfew.training.optim import Optimizer

mark()
training.open_inputs = marked(training.open_inputs)
training.prepare = marked(training.prepare)
step, forward = Optimizer.step, SkeletonGCN.forward

def first(self, x):
    features = forward(self, x)
    if self.training:
        mark()
    return features

def last(self):
    step(self)
    mark()
    os.write(1, json.dumps(over).encode())
    os._exit(0)

SkeletonGCN.forward, Optimizer.step = first, last
main()
"""


def seconds(arguments: list[str], folder: Path) -> tuple[float, float, str]:
    """Return wall time, processor time, which suffers less from what else runs, and the output."""
    start, before = time.perf_counter(), os.times()
    environment = os.environ | {"BEGAN": str(time.time())}
    done = subprocess.run(arguments, capture_output=True, cwd=folder, text=True, env=environment)
    took, after = time.perf_counter() - start, os.times()
    if done.returncode or not done.stdout:
        sys.exit(f"{' '.join(arguments[:6])}: exit {done.returncode}, {done.stderr[-500:]}")
    spent = after.children_user + after.children_system
    return took, spent - before.children_user - before.children_system, done.stdout


def judged(found: float, limit: float) -> str:
    return "met" if found <= limit else "missed"


def command(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    names = sorted(
        e.name for e in entry_points(group="console_scripts") if e.value.startswith("skelfew")
    )
    names = [name for name in names if Path(command(name)).exists()]
    cases = {
        "import torch": [sys.executable, "-c", "import torch; print()"],
        **{f"{name} --help": [command(name), "--help"] for name in names},
        "skelfew-cache info": [command("skelfew-cache"), "info", "ntu120.zarr"],
        "first training batch": [sys.executable, "-c", FIRST_BATCH, "--cache", f"{NAME}.zarr"],
    }
    cases["first training batch"] += ["--run", "run", "--width", "0.25", "--frames", "32"]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    stages: list[list[float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_features(root / "ntu120.zarr", [f"s{i:08d}" for i in range(ROWS)], DIM)
        manifest = write_skeletons(root, SAMPLES, FRAMES)
        write_features(root / f"{NAME}.zarr", list(manifest.ids), DIM, **provenance(manifest))
        for turn in range(arguments.rounds):  # interleaved: a busy minute hits all alike
            cases["first training batch"][6] = f"run{turn}"
            for name, line in cases.items():
                wall, processor, printed = seconds(line, root)
                times[name].append((wall, processor))
                if name == "first training batch":
                    stages.append(json.loads(printed))
    columns = {name: list(zip(*pairs, strict=True)) for name, pairs in times.items()}
    reference = statistics.median(wall for wall, _ in times["import torch"])
    rows = [
        {
            "case": name,
            "median_s": round(statistics.median(wall), 3),
            "min_s": round(min(wall), 3),
            "max_s": round(max(wall), 3),
            "processor_s": round(statistics.median(cpu), 3),
            "times_faster_than_import_torch": round(reference / statistics.median(wall), 1),
        }
        for name, (wall, cpu) in columns.items()
    ]
    over = [statistics.median(column) for column in zip(*stages, strict=True)]
    took = [
        {"stage": stage, "s": round(end - start, 3), "over_after_s": round(end, 3)}
        for stage, start, end in zip(STAGES, [0.0, *over], over, strict=False)
    ]
    goals = [
        {"goal": goal, "s": round(found, 3), "at_most": limit, "is": judged(found, limit)}
        for goal, found, limit in (
            ("slowest --help", max(r["median_s"] for r in rows if "--help" in r["case"]), 0.3),
            ("skelfew-cache info", statistics.median(columns["skelfew-cache info"][0]), 1.0),
            ("first training batch through the encoder", over[3], 5.0),
        )
    ]
    about = {"rounds": arguments.rounds, "load": round(os.getloadavg()[0], 1)}
    report("startup", arguments.json, **about, rows=rows, first_batch=took, goals=goals)


if __name__ == "__main__":
    main()
