"""Training state in one document: tensors as such, the rest as plain values."""

import errno
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.io.documents import Form
from skelfew.io.files import Document, Values
from skelfew.training.optim import Optimizer


class CheckpointError(SkelfewError):
    """A checkpoint that cannot be used; the message names the file and what to do."""


FORM = Form(
    "skelfew-checkpoint",
    "scalars",
    CheckpointError,
    absent="no checkpoint; the run was stopped before its first one, start it again",
)


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
    path: Path, groups: Mapping[str, Mapping[str, Tensor]], scalars: Values
) -> None:
    """Write named groups of tensors and plain values (exact), replacing only when complete on disk.

    Raises CheckpointError if the disk is full or the like; an older checkpoint is still there.
    """
    tensors = {f"{g}/{name}": value for g, group in groups.items() for name, value in group.items()}
    try:
        FORM.write(path, tensors, scalars)
    except OSError as error:
        what = "make room and go on with --resume"
        if error.errno == errno.ENOENT:
            what = "the run is lost, start it again"
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}); {what}") from None


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], Document]:
    """Return the groups of tensors and the scalars of a checkpoint; CheckpointError if none."""
    scalars, tensors = FORM.read(path)
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = value
    return groups, scalars


def load_scalars(path: Path) -> Document:
    """Return the scalars alone; errors as in ``load_checkpoint``."""
    return FORM.read(path, tensors=False)[0]
