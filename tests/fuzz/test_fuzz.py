"""A few hostile inputs for nearly all readers; benchmarks/fuzz.py feeds all of them thousands."""

import json
import subprocess
from pathlib import Path

import pytest
from warm import Warm

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
GROUPS = {  # few, for each is a process that imports everything
    "data": "cache-store cache-zip cache-commands cache-fetch cache-attributes cache-import "
    "address ntu nw-ucla raw-zip utd-mhad pku msr pyskl ctrgcn-npz own",
    "runs": "manifest protocol layout skeletons descriptions run-tables settings encoder head "
    "bridge checkpoint run-folder teacher-weights report odd-folders names text claims",
}


@pytest.mark.parametrize("group", GROUPS)
def test_hostile_files_are_read_or_refused(warm: Warm, group: str) -> None:
    targets = [f"--target={name}" for name in GROUPS[group].split()]
    done = subprocess.run(
        [warm.python, str(SCRIPT), "--inputs=4", "--json", *targets], capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    tried = json.loads(done.stdout)["targets"]
    assert [t["target"] for t in tried] == GROUPS[group].split()
    assert [f for t in tried for f in t["failures"]] == []
    assert sum(t["inputs"] for t in tried) == 4 * len(targets)
