"""The head of a run in its folder: head.safetensors, settings in the header, weights as tensors."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from skelfew.errors import SkelfewError
from skelfew.fewshot import HEADS, HeadClassifier, build_head
from skelfew.io.files import brief, parse_json, shown

FORMAT = "skelfew-head"
FILE = "head.safetensors"
_WIDEST = 1 << 13


def save_head(
    path: Path, name: str, head: HeadClassifier, width: int, about: Mapping[str, Any]
) -> None:
    """Write a head, replacing an older file only when complete.

    Args:
        path: The file.
        name: Key of ``HEADS``.
        head: The head, trained.
        width: Channels of the encoder that it was trained on.
        about: Provenance, plain values.
    """
    document = {**about, "name": name, "settings": head.settings, "width": width}
    state = {} if head.learned is None else head.learned.state_dict()
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save(tensors, {"format": FORMAT, "head": json.dumps(document)}))
    partial.replace(path)


def head_name(path: Path | None) -> str | None:
    """Return which head a run trained with (a key of ``HEADS``); None if there is no such file."""
    return None if path is None or not path.is_file() else str(_read(path)["name"])


def bind(classifier: Any, path: Path | None, dataset: str | None = None) -> Any:
    """Return a classifier as it is scored on the encoder of a run.

    A head takes the settings it was trained with, unless they were given by name, and its weights;
    other classifiers stay what they are.

    Args:
        classifier: Made by ``build_classifier``.
        path: Head of the run; None, or a file that is not there, if it has none.
        dataset: What is scored; None where only its features are known.

    Raises:
        SkelfewError: The head has to be trained, but the run has another one or none; or it knows
            the classes of another data set.
    """
    if not isinstance(classifier, HeadClassifier):
        return classifier
    name = next(k for k, h in HEADS.items() if type(h) is type(classifier.head))
    found = None if path is None or not path.is_file() else _read(path)
    if found is None or found["name"] != name:
        if classifier.head.learns:
            has = f"{path} holds {found['name']!r}" if found else "there is none with this encoder"
            raise SkelfewError(
                f"the head {name!r} has weights that a run must have trained, but {has}; train "
                f"with --set episodic.head={name}, or choose another --classifier"
            )
        return classifier
    if classifier.head.needs_relevance and dataset not in (None, found.get("dataset")):
        raise SkelfewError(
            f"{path}: the head {name!r} has texts of the classes of {found.get('dataset')}, but "
            f"{dataset} is scored; choose another --classifier"
        )
    given = {key: classifier.settings[key] for key in classifier.given}
    head = build_head(name, {**found["settings"], **given})
    learned = head.module(found["width"])
    if learned is not None:
        assert path is not None
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
        try:
            learned.load_state_dict(state)
        except RuntimeError as error:
            raise SkelfewError(
                f"{path}: the weights do not fit {name!r} with these settings "
                f"({str(error).splitlines()[-1].strip()})"
            ) from None
        learned.eval().requires_grad_(False)
    return replace(classifier, head=head, learned=learned)


def _read(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise SkelfewError(f"{path}: not a readable safetensors file ({brief(error)})") from None
    if header.get("format") != FORMAT:
        raise SkelfewError(f"{path}: a safetensors file, but not a {FORMAT}")
    try:
        document = parse_json(header.get("head", ""))
    except ValueError as error:
        raise SkelfewError(
            f"{path}: damaged, its description is no JSON ({brief(error)}); train again"
        ) from None
    kinds: dict[str, Any] = {"name": str, "settings": dict, "width": int}
    for key, kind in kinds.items():
        value = document.get(key) if isinstance(document, dict) else None
        if not isinstance(value, kind) or (key == "width" and not 0 < value <= _WIDEST):
            raise SkelfewError(f"{path}: damaged, {key} of its head is {shown(value)}; train again")
    return dict(document)


def settings_of(classifier: Any) -> dict[str, Any]:
    """Return the settings of any classifier as plain values."""
    return classifier.settings if isinstance(classifier, HeadClassifier) else asdict(classifier)
