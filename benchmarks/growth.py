"""Growth: time and peak memory against the number of samples, and the exponents fitted to them.

Claim: time grows with an exponent of at most 1.05 in all that reads every sample, and a training
step takes the same time however many samples there are. Each size is measured in a process of its
own; peaks are VmHWM (ru_maxrss is inherited), less what was resident before. Time is the process's
processor time, which suffers less from what else the machine does.

- prepare: `skelfew-prepare demo` without videos, one worker (66 samples a subject and repetition)
- extract: xclip-demo (4 MB of weights) over the 66 videos of a demo world, again and again, one
  decoding process; its start is in it
- store: skeletons of 20 frames of 25 joints written; load: read into a bank of one body
- step: a batch of 32 made, and forward and backward of a CTR-GCN of 1/8 width, 16 frames
- cache write, cache load, cache verify: f_v and f_t of 64 numbers in float16
- manifest: a manifest read and its SHA-256

Usage: python benchmarks/growth.py [--samples 1000 10000 100000] [--rows 10000 100000 1000000]
           [--prepare 1000 10000] [--extract 100 1000] [--manifest 10000 200000] [--json]
"""

import contextlib
import io
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from support.rows import options, report

FRAMES, DIM, BATCH, STEPS = 20, 64, 32, 8
MOST_SUBJECTS = 999  # of a demo world


class Repeated:
    """Skeletons under many IDs: ``A_1``, ``A_2`` ... are those of A."""

    def __init__(self, skeletons: Any):
        self._skeletons = skeletons

    def __getattr__(self, name: str) -> Any:
        return getattr(self._skeletons, name)

    def __contains__(self, sample_id: str) -> bool:
        return sample_id.rpartition("_")[0] in self._skeletons

    def __getitem__(self, sample_id: str) -> Any:
        return self._skeletons[sample_id.rpartition("_")[0]]


def resident(key: str) -> float:
    """Return VmRSS or VmHWM of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{key}:\s*(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024


def child(what: str, count: int, root: Path) -> None:
    """Do one thing at one size and print its numbers."""
    import torch
    from support.large_world import write_features, write_skeletons

    from skelfew.cache import TeacherCache
    from skelfew.cache.tools.verify import verify
    from skelfew.cli.prepare import main as prepare
    from skelfew.data.input.bank import SkeletonBank
    from skelfew.data.input.pipeline import Pipeline
    from skelfew.data.manifest import Manifest, Sample
    from skelfew.data.store import SkeletonStore
    from skelfew.encoders import build_encoder

    torch.set_num_threads(1)
    store, cache = root / "data" / "large.h5", root / "features.zarr"
    repeat = 1

    def load() -> SkeletonBank:
        with SkeletonStore(store) as opened:
            return SkeletonBank.from_store(opened, opened.ids, Pipeline(length=16), bodies=1)

    def prepared(count: int = count, video: bool = False) -> None:
        performances = math.ceil(count / 66)
        times = math.ceil(performances / MOST_SUBJECTS)
        options = [f"--option=subjects={math.ceil(performances / times)}"]
        options += ["--option=views=1", f"--option=replications={times}"]
        options += [] if video else ["--option=video=false"]
        places = ["--out", str(root / "p.csv"), "--data", str(root / "p.h5")]
        line = ["demo", "--raw", str(root / "raw"), *places, "--workers=1", *options]
        with contextlib.suppress(SystemExit):  # of a command that ends
            prepare(line)
        assert len(Manifest.read(root / "p.csv")) >= count

    if what == "extract":
        from skelfew_extract import extract as extraction
        from skelfew_extract.clips import DecodeSettings
        from skelfew_extract.crop import CropSettings
        from skelfew_extract.recordings import Recordings
        from skelfew_extract.teachers import build_teacher

        with contextlib.redirect_stdout(io.StringIO()):
            prepared(66, video=True)
        few = Recordings.open(root / "p.csv", root / "p.h5", None)
        samples = few.manifest.samples
        many = tuple(
            replace(sample, sample_id=f"{sample.sample_id}_{i:07d}")
            for i, sample in zip(range(count), itertools.cycle(samples), strict=False)
        )
        recordings = Recordings(Manifest("demo", many), Repeated(few.skeletons), few.videos)  # type: ignore[arg-type]
        teacher = build_teacher("xclip-demo")
        crop = CropSettings(frames=teacher.frames, size=teacher.image_size)
        settings = extraction.Settings(DecodeSettings(crop), batch=8, workers=1)
        action: Any = lambda: extraction.extract(recordings, teacher, cache, settings)  # noqa: E731
    elif what == "step":
        repeat = STEPS
        bank = load()
        encoder = build_encoder("ctrgcn", "kinect-v2", bodies=1, width=0.125).train()
        draw = torch.Generator().manual_seed(0)

        def step() -> None:
            index = torch.randint(0, count, (BATCH,), generator=draw)
            encoder(bank.batch(index, train=True, generator=draw)).square().mean().backward()

        step()
        action = step
    elif what == "cache write":
        ids = [f"s{i:08d}" for i in range(count)]
        action = lambda: write_features(cache, ids, DIM)  # noqa: E731
    elif what == "manifest":
        classes = [(number, f"action {number}") for number in range(1, 61)]
        samples = tuple(
            Sample(f"s{i:08d}", *pair, 20, 1)
            for i, pair in zip(range(count), itertools.cycle(classes), strict=False)
        )
        Manifest("large", samples).write(root / "large.csv")
        action = lambda: Manifest.read(root / "large.csv").sha256  # noqa: E731
    else:
        action = {
            "prepare": prepared,
            "store": lambda: write_skeletons(root, count, FRAMES),
            "load": load,
            "cache load": lambda: TeacherCache.open(cache),
            "cache verify": lambda: verify(cache),
        }[what]
    base, used, began = resident("VmRSS"), sum(os.times()[:4]), time.perf_counter()
    kept = [action() for _ in range(repeat)]
    wall, cpu = time.perf_counter() - began, sum(os.times()[:4]) - used
    row = {"s": wall / repeat, "cpu_s": cpu / repeat, "mib": max(resident("VmHWM") - base, 0.1)}
    assert len(kept) == repeat
    print("\n" + json.dumps(row))


def exponent(sizes: list[int], values: list[float]) -> float | None:
    """Return the slope of log value over log size; None of a single size."""
    if len(sizes) < 2:
        return None
    return round(float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-6)), 1)[0]), 2)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = options(__doc__)
    parser.add_argument("--samples", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--prepare", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--extract", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--manifest", type=int, nargs="*", default=[10_000, 200_000])
    arguments = parser.parse_args()
    chains = [(arguments.prepare, ["prepare"]), (arguments.samples, ["store", "load", "step"])]
    chains += [(arguments.extract, ["extract"]), (arguments.manifest, ["manifest"])]
    chains += [(arguments.rows, ["cache write", "cache load", "cache verify"])]
    rows: list[dict[str, Any]] = []
    for sizes, names in chains:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for size in sizes:
            with tempfile.TemporaryDirectory() as root:
                for name in names:
                    line = [sys.executable, __file__, "--child", name, str(size), root]
                    done = subprocess.run(line, capture_output=True, text=True)
                    if done.returncode:
                        sys.exit(f"{name} of {size}: {done.stderr[-1000:]}")
                    found[name].append(json.loads(done.stdout.splitlines()[-1]))
        for name, values in found.items():
            rows.append({"what": name, "sizes": sizes})
            for key in ("s", "cpu_s", "mib"):
                rows[-1][key] = [float(f"{value[key]:.3g}") for value in values]
            for key in ("cpu_s", "mib"):
                rows[-1][f"exponent_{key}"] = exponent(sizes, [v[key] for v in values])
    report("growth", arguments.json, load=round(os.getloadavg()[0], 1), rows=rows)


if __name__ == "__main__":
    main()
