"""Small runs of skelfew's commands, forked from warm processes, for faults.py to disturb."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from small_world import FAST, make_world

from skelfew.cache import DONE
from skelfew.cache.format.stored import StoredCache

CLIPS, BATCH = 24, 2
EXTRACT = ["demo", "--teacher", "xclip-demo", "--workers", "1", "--limit", str(CLIPS)]
EXTRACT += ["--batch", str(BATCH)]
TIMING = ("seconds", "samples_per_second", "waiting_share")
FORKS = """
import importlib, json, multiprocessing, os, resource, sys
from multiprocessing import forkserver
import torch, skelfew.training.run, skelfew.cli.train, skelfew_extract.cli, skelfew_extract.extract
from skelfew_extract.teachers import build_teacher
torch.set_num_threads(1)
build_teacher("xclip-demo")  # imports what it needs
multiprocessing.set_forkserver_preload(["skelfew_extract.engines.decode_worker"])
forkserver.ensure_running()
plain = multiprocessing.get_context
multiprocessing.get_context = lambda kind=None: plain("forkserver" if kind == "spawn" else kind)
print(forkserver._forkserver._forkserver_pid, flush=True)
while line := sys.stdin.readline():
    asked = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        forkserver._forkserver.ensure_running = lambda: None  # it is no child of this process
        os.chdir(asked["folder"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if asked["largest"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest"],) * 2)
        importlib.import_module(asked["module"]).main(asked["arguments"])
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Commands:
    """Runs commands of skelfew in ``folder``, one at a time."""

    def __init__(self, folder: Path):
        self.folder, self.log = folder, folder / "log.txt"
        self._forks = subprocess.Popen(
            [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._forks.stdin is not None and self._forks.stdout is not None
        self._asked, self._answers = self._forks.stdin, self._forks.stdout
        self.server, self.pid = int(self._answers.readline()), 0

    def start(self, module: str, *arguments: object, largest: int = 0) -> None:
        """Start a command; ``largest`` bytes is the most that a file of it may hold."""
        asked = {"module": module, "arguments": [str(a) for a in arguments], "largest": largest}
        asked |= {"folder": str(self.folder), "log": str(self.log)}
        print(json.dumps(asked), file=self._asked, flush=True)
        self.pid = int(self._answers.readline())

    def running(self) -> bool:
        return not select.select([self._answers], [], [], 0)[0]

    def wait(self) -> int:
        return int(self._answers.readline())

    def run(self, module: str, *arguments: object, largest: int = 0) -> int:
        self.start(module, *arguments, largest=largest)
        return self.wait()

    def stop(self, how: signal.Signals) -> int:
        with contextlib.suppress(ProcessLookupError):  # it has ended a moment ago
            os.kill(self.pid, how)
        return self.wait()

    def close(self) -> None:
        self._asked.close()
        self._forks.wait()


class Extractions:
    """A small data set, what an undisturbed extraction gives, and how others differ from it."""

    def __init__(self, commands: Commands):
        self.commands, self.folder = commands, commands.folder
        self.out = self.folder / "cache" / "disturbed.zarr"
        reference = self.folder / "cache" / "whole.zarr"
        bin = Path(sys.executable).parent
        if not (self.folder / "data" / "demo.h5").exists():
            options = ["--option", "subjects=2", "--option", "views=1", "--workers", "1"]
            quiet: dict[str, Any] = {"cwd": self.folder, "capture_output": True, "check": True}
            subprocess.run([bin / "skelfew-prepare", "demo", *options], **quiet)
            subprocess.run([bin / "skelfew-extract", *EXTRACT, "--out", reference], **quiet)
        for aside in self.folder.rglob("*.aside"):  # left by a run that was killed
            aside.replace(aside.with_suffix(".mp4"))
        self.whole = StoredCache.open(reference)
        rows = slice(0, CLIPS)
        self.rows = {name: self.whole.read(name, rows) for name in self.whole.features}
        self.first, self.block = 4.0, 0.2  # seconds: until the first block, and between two

    def extract(self, *arguments: object, out: Path | None = None, largest: int = 0) -> int:
        out = out or self.out
        return self.commands.run(
            "skelfew_extract.cli", *EXTRACT, "--out", out, *arguments, largest=largest
        )

    def start(self) -> None:
        self.commands.start("skelfew_extract.cli", *EXTRACT, "--out", self.out)

    def done(self, out: Path | None = None) -> np.ndarray:
        out = out or self.out
        if not out.exists():
            return np.zeros(CLIPS, dtype=bool)
        return np.asarray(StoredCache.open(out).status[:CLIPS] == DONE)

    def lost(self, before: np.ndarray, out: Path | None = None) -> int:
        """Return how many rows of ``before`` are gone, plus finished rows with other values."""
        out = out or self.out
        now = self.done(out)
        if not out.exists():
            return int(before.sum())
        cache = StoredCache.open(out)
        wrong = np.zeros(CLIPS, dtype=bool)
        for name, expected in self.rows.items():
            wrong |= (cache.read(name, slice(0, CLIPS)) != expected).any(axis=(1, 2)) & now
        return int((before & ~now).sum() + wrong.sum())

    def same(self, out: Path | None = None) -> bool:
        """Whether the content is that of the undisturbed extraction; computed, not believed."""
        return StoredCache.open(out or self.out).digest() == self.whole.attrs["digest"]

    def fresh(self) -> Path:
        for path in self.out.parent.glob("disturbed*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.out

    def commits(self) -> int:
        """Return what changes whenever a block is committed."""
        try:
            return (self.out / "status" / "c.0").stat().st_mtime_ns
        except OSError:
            return 0

    def wait_for_commits(self, count: int) -> int:
        """Wait until so many blocks are committed or the command has ended; return how many."""
        seen, last, began = 0, self.commits(), time.monotonic()
        while seen < count and self.commands.running():
            if (now := self.commits()) != last:
                took = time.monotonic() - began
                if seen:
                    self.block = 0.8 * self.block + 0.2 * took
                else:
                    self.first = 0.8 * self.first + 0.2 * took
                seen, last, began = seen + 1, now, time.monotonic()
            time.sleep(0.001)
        return seen


class Trainings:
    """A run of three stages on a data set of tiny clips, and what it ends in undisturbed."""

    def __init__(self, commands: Commands):
        self.commands, self.folder = commands, commands.folder
        if not (self.folder / "tiny").exists():
            make_world(self.folder / "tiny")
        protocol = self.folder / "tiny/manifests/protocols/tiny.json"
        self.cache = self.folder / "tiny/cache/tiny.zarr"
        self.options = [f"--cache={self.cache}", f"--protocol={protocol}", "--batch=8", *FAST]
        self.options += ["--epochs=4", "--episodes=15", "--set=episodic.epoch_episodes=5"]
        began = time.monotonic()
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        assert self.train("whole") == 0, commands.log.read_text()
        self.seconds = time.monotonic() - began

    def train(self, name: str, *more: object) -> int:
        return self.commands.run("skelfew.cli.train", *self.arguments(name), *more)

    def arguments(self, name: str) -> list[str]:
        return [*self.options, f"--run={self.folder / 'runs' / name}", "--resume-or-start"]

    def rows(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / "runs" / name / "metrics.jsonl"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        rows = [json.loads(line) for line in lines]
        return [{k: v for k, v in row.items() if k not in TIMING} for row in rows]

    def same(self) -> bool:
        whole, stopped = (
            load_file(self.folder / "runs" / name / "encoder.safetensors")
            for name in ("whole", "stopped")
        )
        alike = all((stopped[key] == value).all() for key, value in whole.items())
        return alike and self.rows("whole") == self.rows("stopped")
