"""docs/cluster.md: its script runs as tasks of an array do, and the shards merge."""

import re
import subprocess
from pathlib import Path

import pytest
from extraction_world import make_world

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"


@pytest.mark.slow
def test_the_array_of_the_page_extracts_shards_that_merge(
    tmp_path: Path, commands: dict[str, str]
) -> None:
    make_world(tmp_path, count=4)
    script = re.search(r"```sh\n(#!/bin/sh\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert script is not None
    (tmp_path / "extract.sh").write_text(script[1])
    cluster = {
        **commands, "DATASET": "spots", "SLURM_ARRAY_TASK_COUNT": "2",
        "SLURM_CPUS_PER_TASK": "1", "EXTRACT_ARGS": "--teacher xclip-demo --videos videos",
    }  # fmt: skip
    quiet = {"cwd": tmp_path, "capture_output": True, "text": True}
    for task in "12":
        done = subprocess.run(
            ["sh", "extract.sh"], env={**cluster, "SLURM_ARRAY_TASK_ID": task}, **quiet
        )  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr
    merge, verify = re.findall(r"^    (skelfew-cache .*)$", PAGE.read_text(), re.MULTILINE)
    for command in (merge, verify):
        here = command.replace("ntu120.zarr", "joined.zarr").replace("ntu120", "spots")
        done = subprocess.run(["sh", "-c", here], env=cluster, **quiet)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr + done.stdout
