"""Training state in one safetensors file: tensors as such, the rest as JSON in its header.

One file, so that one rename commits all of it; no pickle, so that opening it executes nothing.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.io.files import brief, check_file, parse_json, shown
from skelfew.training.optim import Optimizer

FORMAT = "skelfew-checkpoint"
FORMAT_VERSION = 1


class CheckpointError(SkelfewError):
    """A checkpoint that cannot be used; the message names the file and what to do."""


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the state as ``{"<parameter>.<name>": tensor}``; parameters are counted over groups.

    Learning rates and decays are left out: they follow from the configuration and the step.
    """
    return {
        f"{index}.{name}": value
        for index, parameter in enumerate(optimizer.parameters)
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``optimizer_tensors`` returned, on the devices of the parameters."""
    parameters = optimizer.parameters
    optimizer.state.clear()
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        kept = value.clone() if name == "step" else value.to(parameter, copy=True)
        optimizer.state.setdefault(parameter, {})[name] = kept


def save_checkpoint(
    path: Path, groups: Mapping[str, Mapping[str, Tensor]], scalars: Mapping[str, Any]
) -> None:
    """Write a checkpoint, replacing an older one only when it lies complete on the disk.

    Args:
        path: The file.
        groups: Named groups of tensors, e.g. ``{"module": ..., "optimizer": ...}``.
        scalars: Plain values, kept exactly (floats survive JSON).

    Raises:
        CheckpointError: If the disk is full or the like; an older checkpoint is still there.
    """
    tensors = {}
    for group, members in groups.items():
        for name, value in members.items():
            # A clone, because safetensors refuses tensors that share memory.
            tensors[f"{group}/{name}"] = value.detach().cpu().contiguous().clone()
    header = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "scalars": json.dumps(dict(scalars)),
    }
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:  # save_file would make it unreadable to others
            file.write(save(tensors, header))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror}); make room and go on with --resume"
        ) from None


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Return the groups of tensors and the scalars of a checkpoint.

    Raises:
        CheckpointError: No such file, not a checkpoint, or written by a newer skelfew.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    with _opened(path) as file:
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = file.get_tensor(key)
        return groups, _scalars(path, file)


def load_scalars(path: Path) -> dict[str, Any]:
    """Return the scalars alone; errors as in ``load_checkpoint``."""
    with _opened(path) as file:
        return _scalars(path, file)


def _scalars(path: Path, file: Any) -> dict[str, Any]:
    try:
        scalars = parse_json(file.metadata()["scalars"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: its scalars are no JSON ({brief(error)})") from None
    if not isinstance(scalars, dict):
        raise CheckpointError(f"{path}: its scalars are {shown(scalars)}, expected an object")
    return scalars


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        check_file(path, most=None)
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise CheckpointError(f"{path}: a safetensors file, but not a {FORMAT}")
            version = header.get("format_version", "")
            if not version.isdecimal() or len(version) > 9:
                raise CheckpointError(f"{path}: format_version is {shown(version)}")
            if int(version) > FORMAT_VERSION:
                raise CheckpointError(f"{path}: written by a newer skelfew; upgrade to go on")
            yield file
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no checkpoint; the run was stopped before its first one, start it again"
        ) from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({brief(error)})") from None
