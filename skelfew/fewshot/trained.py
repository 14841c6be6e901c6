"""The head of a run in its folder: head.safetensors, settings in the header, weights as tensors."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.fewshot import build_head
from skelfew.fewshot.ensemble import Ensemble
from skelfew.fewshot.head import Head, HeadClassifier
from skelfew.io.documents import Form
from skelfew.io.files import Document, Values, shown

FORM = Form("skelfew-head", "head")
FILE = "head.safetensors"
_WIDEST = 1 << 13


def save_head(path: Path, head: HeadClassifier, width: int, about: Values) -> None:
    """Write a trained head and its provenance, replacing an older file only when complete."""
    document = {**about, "name": head.name, "settings": head.settings, "width": width}
    FORM.write(path, head.head.state_dict(), document)


def head_name(path: Path | None) -> str | None:
    """Return which head a run trained with (a key of ``HEADS``); None if there is no such file."""
    return None if path is None or not path.is_file() else str(_read(path)["name"])


def bind(classifier: Any, path: Path | None, dataset: str | None = None) -> Any:
    """Return a classifier as it is scored on the encoder of a run with the head ``path``.

    A head takes the settings it was trained with, unless they were given by name, and its weights;
    others are returned unchanged. Raises SkelfewError: the head has to be trained, but the run has
    another one or none; or it knows the classes of another data set than ``dataset``.
    """
    if not isinstance(classifier, HeadClassifier):
        return classifier
    name = classifier.name
    found = None if path is None or not path.is_file() else _read(path)
    if found is None or found["name"] != name:
        if classifier.head.learns:
            has = f"{path} holds {found['name']!r}" if found else "there is none with this encoder"
            raise SkelfewError(
                f"the head {name!r} has weights that a run must have trained, but {has}; train "
                f"with --set episodic.head={name}, or choose another --classifier"
            )
        return classifier
    if classifier.head.knows_classes and dataset not in (None, found.get("dataset")):
        raise SkelfewError(
            f"{path}: the head {name!r} has texts of the classes of {found.get('dataset')}, but "
            f"{dataset} is scored; choose another --classifier"
        )
    given = {key: classifier.settings[key] for key in classifier.given}
    head = build_head(name, {**found["settings"], **given}, found["width"])
    assert path is not None
    try:
        head.load_state_dict(with_part(head, FORM.read(path)[1]))
    except RuntimeError as error:
        raise SkelfewError(
            f"{path}: the weights do not fit {name!r} with these settings "
            f"({str(error).splitlines()[-1].strip()})"
        ) from None
    return replace(classifier, head=head.eval().requires_grad_(False))


def with_part(head: Head, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state by the names of today; once it held the names inside a head's only part."""
    parts = [name for name, _ in head.named_children()]
    if len(parts) != 1 or any(key.startswith(f"{parts[0]}.") for key in state):
        return dict(state)
    return {f"{parts[0]}.{key}": value for key, value in state.items()}


def _read(path: Path) -> Document:
    document, _ = FORM.read(path, tensors=False)
    kinds: Document = {"name": str, "settings": dict, "width": int}
    for key, kind in kinds.items():
        value = document.get(key)
        if not isinstance(value, kind) or (key == "width" and not 0 < value <= _WIDEST):
            raise SkelfewError(f"{path}: damaged, {key} of its head is {shown(value)}; train again")
    return document


def settings_of(classifier: Any) -> Document:
    """Return the settings of any classifier as plain values."""
    own = isinstance(classifier, HeadClassifier | Ensemble)
    return classifier.settings if own else asdict(classifier)
