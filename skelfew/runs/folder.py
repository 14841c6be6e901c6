"""Run folders: what a training run was asked, stood on, and measured.

runs/nw-ucla-20261124-101500/
  config.json            every setting, resolved; what was changed from the preset
  environment.json       versions, processor, GPU, git commit, command line
  inputs.json            paths and digests of manifest, store, cache, protocol
  metrics.jsonl          one line an epoch
  log.txt                what was printed to stderr
  checkpoint.safetensors all that --resume needs
  encoder.STAGE.safetensors  the encoder as that stage left it
  head.safetensors       the head of the episodic stage, if it is not the paper's cosines
  encoder.safetensors    the encoder at the end; its presence says that the run is finished
"""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from skelfew.config import STAGES, ConfigError, TrainConfig, preset, stage_settings
from skelfew.encoders import completed
from skelfew.errors import SkelfewError
from skelfew.io import files
from skelfew.io.budget import check_json
from skelfew.io.clean import printable
from skelfew.io.files import Document, Values, brief, parse_json, shown
from skelfew.io.paths import below
from skelfew.io.writing import append_line, write_json, write_text
from skelfew.runs.recorded import RunError as RunError
from skelfew.runs.recorded import check_places, usable

ENCODER = "encoder.safetensors"
_PACKAGES = ("skelfew", "torch", "numpy", "zarr", "h5py", "safetensors")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        writes: Whether what is written through this object is; False in all but one of the
            processes of a run.
        callback: Gets the run and each line that was added to metrics.jsonl.
    """

    path: Path
    writes: bool = True
    callback: "Callback | None" = field(default=None, compare=False)

    @classmethod
    def create(
        cls, dataset: str, folder: str | Path = "runs", path: str | Path | None = None
    ) -> "Run":
        """Make a new folder ``DATASET-YYYYMMDD-HHMMSS`` below ``folder``, or exactly ``path``."""
        if path is not None:
            path = Path(path)
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                raise RunError(
                    f"{path}: exists already; choose another --run, or go on with --resume {path}"
                ) from None
            return cls(path)
        stem = f"{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"
        for k in range(1, 1000):
            path = below(
                Path(folder), stem if k == 1 else f"{stem}-{k}", links=True, error=RunError
            )
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            return cls(path)
        raise RunError(f"{folder}: cannot find a free name for {stem}")

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open an existing folder; raise RunError if it is not one of a run."""
        path = Path(path)
        if not (path / "config.json").is_file():
            raise RunError(
                f"{path}: no run here (config.json is missing); runs are made by skelfew-train"
            )
        try:
            for _ in files.entries(path):
                pass
        except ValueError as error:
            raise RunError(f"{path}: {error}; links in a run folder are not followed") from None
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({brief(error)})") from None
        return cls(path)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @property
    def encoder(self) -> Path:
        """The encoder at the end of the run."""
        return self.path / ENCODER

    @property
    def head(self) -> Path:
        """The head that the episodic stage trained with; absent for the paper's cosines."""
        return self.path / "head.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint, which ``--resume`` reads."""
        return self.path / "checkpoint.safetensors"

    @property
    def finished(self) -> bool:
        """Whether the last stage is through."""
        return self.encoder.is_file()

    def check_finished(self) -> None:
        """Raise RunError unless the last stage is through."""
        if not self.finished:
            raise RunError(
                f"{self.path}: not finished; go on with skelfew-train --resume {self.path}"
            )

    def write_config(self, config: TrainConfig) -> None:
        """Write config.json."""
        if not self.writes:
            return
        document = {**config.to_dict(), "changed_from_preset": config.changed()}
        write_json(self.path / "config.json", document)

    def config(self) -> TrainConfig:
        """Read config.json, without the inputs that may not be opened, see ``runs.recorded``."""
        config = self.recorded()
        return replace(config, inputs=usable(config.inputs, self.path))

    def recorded(self) -> TrainConfig:
        """Read config.json as it is."""
        document = read_json(self.path / "config.json")
        document.pop("changed_from_preset", None)
        if isinstance(document.get("encoder"), Mapping):
            document["encoder"] = completed(document["encoder"])
        try:
            return TrainConfig.from_dict(document)
        except SkelfewError as error:
            raise RunError(f"{self.path / 'config.json'}: {error}") from None

    def write_environment(self) -> None:
        """Write environment.json; a resumed run adds to it instead of replacing it."""
        if not self.writes:
            return
        path = self.path / "environment.json"
        before = read_json(path).get("sessions", []) if path.is_file() else []
        write_json(path, {"sessions": [*before, environment()]})

    def check(self) -> None:
        """Raise RunError if the folder was deleted or moved: writing would make a part of it."""
        if not (self.path / "config.json").is_file():
            raise RunError(
                f"{self.path}: deleted or moved while the run was going on; start it again, or "
                "--resume it where it is now"
            )

    def append(self, row: Values) -> None:
        """Add a line to metrics.jsonl."""
        if not self.writes:
            return
        self.check()
        append_line(self.path / "metrics.jsonl", json.dumps(dict(row)))
        if self.callback is not None:
            self.callback(self, row)

    def rows(self) -> list[Document]:
        """Return the lines of metrics.jsonl; a last line that was cut off is left out."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        try:
            check_json(text := files.read_text(path))
            rows = [parse_json(line) for line in text.split("\n")[:-1]]
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: a line is no JSON ({brief(error)})") from None
        if bad := [row for row in rows if not isinstance(row, dict)]:
            raise RunError(f"{path}: {shown(bad[0])} is no row of metrics")
        return rows

    def keep_rows(self, count: int) -> None:
        """Shorten metrics.jsonl to its first ``count`` lines."""
        if not self.writes:
            return
        text = "".join(json.dumps(row) + "\n" for row in self.rows()[:count])
        write_text(self.path / "metrics.jsonl", text)

    def log(self, message: str, show: bool = True) -> None:
        """Add a line to log.txt and print it to stderr if ``show`` is true."""
        if not self.writes:
            return
        message = printable(message)
        if show:
            print(printable(message), file=sys.stderr, flush=True)
        append_line(self.path / "log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}")


Callback = Callable[[Run, Values], None]


def read_config(path: Path, start: str | None = None) -> TrainConfig:
    """Return the preset that a file names with the file's settings in it.

    Args:
        path: JSON, or TOML if its name ends in ``.toml``. A table is a group of settings, so that
            ``[transfer.optimizer]`` with ``lr = 0.01`` is ``transfer.optimizer.lr``.

    Raises:
        ConfigError: The file cannot be read, or a setting does not exist or cannot be so.
        RunError: A JSON file, so the record of a run, names a place that may not be opened.
    """
    try:
        document = (files.read_toml if path.suffix == ".toml" else files.read_json)(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no readable settings ({brief(error)})") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: {shown(document)} is no group of settings")
    document.pop("changed_from_preset", None)
    if path.suffix != ".toml" and isinstance(document.get("encoder"), dict):
        document["encoder"] = completed(document["encoder"])
    named = start or document.get("preset") or "recommended"
    if not isinstance(named, str):
        raise ConfigError(f"{path}: preset is {shown(named)}; expected a name")
    try:
        base = preset(named).to_dict()
        for stage in set(document) & set(STAGES) - set(base):
            base[stage] = json.loads(json.dumps(dataclasses.asdict(stage_settings(stage, named))))
        config = TrainConfig.from_dict({**_merged(base, document), "preset": named})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if path.suffix != ".toml":
        check_places(config.inputs, config.protocol, path)
    return config


def _merged(base: Values, own: Values) -> Document:
    """Return ``base`` with the values of ``own`` in it, group by group."""
    merged = dict(base)
    for key, value in own.items():
        under = merged.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            merged[key] = _merged(under, value)
        else:
            merged[key] = value
    return merged


def newest_run(folder: str | Path = "runs") -> Run:
    """Return the run that finished last; raise RunError if there is none."""
    folder = Path(folder)
    finished = sorted(folder.glob(f"*/{ENCODER}"), key=lambda p: (p.stat().st_mtime_ns, p))
    if not finished:
        raise RunError(f"{folder}: no finished run; train one with skelfew-train")
    return Run.open(finished[-1].parent)


def environment() -> Document:
    """Return versions, machine, git commit and command line of this process."""
    import torch

    versions: dict[str, str] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "versions": versions,
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "git_commit": _git_commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git_commit() -> str | None:
    """The commit of the checkout that this package runs from, ``+changes`` if it was edited."""
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # else: installed inside another checkout
        edited = git("status", "--porcelain", "--untracked-files=no", ".")
        return git("rev-parse", "HEAD") + ("+changes" if edited else "")
    except (OSError, subprocess.SubprocessError):
        return None


def read_json(path: Path) -> Document:
    """Read a JSON file; raise RunError naming it if it cannot be read."""
    try:
        return files.read_json_object(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not a readable JSON file ({brief(error)})") from None
