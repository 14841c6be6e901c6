"""Start-up: --help of every command against importing torch alone, in one run.

Claim: help answers in under 0.3 s because nothing heavy is loaded for it.
Usage: python benchmarks/startup.py [--json]
"""

import json
import statistics
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

ROUNDS = 7


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(arguments, capture_output=True, check=True)
    return time.perf_counter() - start


def main() -> None:
    scripts = {
        e.name: [str(Path(sys.executable).parent / e.name), "--help"]
        for e in entry_points(group="console_scripts")
        if "skelfew" in e.value
    }
    cases = {"import torch": [sys.executable, "-c", "import torch"], **scripts}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):  # interleaved, so that a busy minute hits all alike
        for name, arguments in cases.items():
            times[name].append(seconds(arguments))
    reference = statistics.median(times["import torch"])
    rows = [
        {
            "case": name,
            "median_s": round(statistics.median(values), 3),
            "min_s": round(min(values), 3),
            "max_s": round(max(values), 3),
            "times_faster_than_import_torch": round(reference / statistics.median(values), 1),
        }
        for name, values in times.items()
    ]
    if "--json" in sys.argv:
        print(json.dumps({"benchmark": "startup", "rounds": ROUNDS, "rows": rows}, indent=2))
        return
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
