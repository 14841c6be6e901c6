"""Clips a second of decoding and cropping: this checkout beside an older commit, in one run.

Claim (goal): at least 0.95 of the older rate. The older commit is unpacked beside; the two take
turns, each in a process of its own with one thread, and the best of the turns counts.

Usage: python benchmarks/decode.py [VIDEO...] [--old 5342952] [--turns 5] [--json]
    Without videos: NTU's AVI, and 24 of UTD-MHAD's MP4.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from support.rows import options

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
CLIPS = """
import sys, time
from pathlib import Path
from skelfew_extract.clips import ClipTask, DecodeSettings
from skelfew_extract.crop import CropSettings
from skelfew_extract.engines.decode_worker import decode_clip
from skelfew_extract.frames import probe
import torch
torch.set_num_threads(1)
settings = DecodeSettings(CropSettings(policy="centre"))
tasks = [ClipTask(0, "", "", Path(p), 0, probe(p).frames) for p in sys.argv[1:]]
decode_clip(tasks[0], settings)
began = time.process_time()
for task in tasks:
    report, clip = decode_clip(task, settings)
    assert clip is not None, report.message
print(len(tasks) / (time.process_time() - began))
"""


def rate(root: Path, videos: list[str]) -> float:
    """Return clips per second of processor time of the code below ``root``."""
    paths = os.pathsep.join([str(root), str(root / "pipeline")])
    line = [sys.executable, "-c", CLIPS, *videos]
    found = subprocess.run(
        line, env={**os.environ, "PYTHONPATH": paths}, check=True, capture_output=True, text=True
    )
    return float(found.stdout)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("videos", nargs="*")
    parser.add_argument("--old", default="5342952")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    groups = {f"{len(given.videos)} videos": given.videos}
    if not given.videos:
        mp4 = sorted(map(str, (DATA / "utd-mhad" / "depth_video").glob("*.mp4")))[::36][:24]
        groups = {
            "NTU RGB+D, AVI": list(map(str, (DATA / "ntu").glob("*.avi"))),
            f"UTD-MHAD, {len(mp4)} MP4": mp4,
        }
    with tempfile.TemporaryDirectory() as folder:
        code = subprocess.run(
            ["git", "-C", str(ROOT), "archive", given.old, "skelfew", "pipeline"],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
        subprocess.run(["tar", "-x", "-C", folder], input=code, check=True)
        for name, videos in groups.items():
            pairs = [(rate(Path(folder), videos), rate(ROOT, videos)) for _ in range(given.turns)]
            old, new = (max(side) for side in zip(*pairs, strict=True))
            result = {"videos": name, "old": given.old, "old_per_s": old, "new_per_s": new}
            words = f"{name}: {given.old} {old:.2f} clips/s, here {new:.2f}, ratio {new / old:.2f}"
            text = json.dumps({**result, "ratio": new / old}) if given.json else words
            sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
