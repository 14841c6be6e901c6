"""Making a damaged store fit to be gone on with: rows that cannot be believed become pending.

Nothing is thrown away: chunks that cannot be read are moved to ``NAME.zarr.damaged`` beside the
store. Killed at any moment, another repair finds what is left to do.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skelfew.cache.format.checks import CacheError
from skelfew.cache.format.history import CONVENTIONS, declared, step, steps_of
from skelfew.cache.format.storage import (
    DAMAGE,
    DONE,
    FAILED,
    PENDING,
    Array,
    Group,
    chunk_keys,
    digest_of,
    ids_of,
    read,
)
from skelfew.io.files import Values

_FEATURES = ("video", "text")


def lost_digest(attrs: Values) -> str | None:
    """Return the digest that a store had before a repair that has not been finished, or None."""
    steps = steps_of(attrs)
    if "digest" in attrs or not steps or steps[-1].get("name") != "repair":
        return None
    parameters = steps[-1].get("parameters")
    before = parameters.get("digest_before") if isinstance(parameters, dict) else None
    return before if isinstance(before, str) else None


def repair(
    path: Path,
    group: Group,
    arrays: Mapping[str, Array],
    sample_ids: Sequence[str],
    class_text: np.ndarray | None,
) -> int:
    """Mark the rows of damaged chunks as pending and restore what does not come from a teacher.

    The caller holds the lock and has compared the identity of the store; ``sample_ids`` and
    ``class_text`` (C, D) are what it should hold. Returns how many rows are to be extracted again.
    Raises CacheError: the content is not what its digest says, but no damaged row can be found.
    """
    bad = {name: _unreadable(arrays[name]) for name in arrays}
    status, guessed = _status(arrays, bad, bool(group.attrs.get("complete")))
    lost = np.zeros(len(status), dtype=bool)
    for name in _FEATURES:
        if name in arrays:
            lost |= ~_finite(arrays[name], bad[name])
    lost &= status == DONE
    lost |= guessed & (status == PENDING)
    ids_bad = _ids_damaged(arrays)
    if not (lost.any() or guessed.any() or ids_bad or any(bad.values())):
        _refuse_unknown(path, group, arrays)
        return 0
    attrs = dict(group.attrs)
    before = attrs.pop("digest", None) or lost_digest(group.attrs)
    last = step("repair", {"samples": int(lost.sum()), "digest_before": before})
    ours = {**declared([*steps_of(attrs), last]), "complete": False}
    ours[CONVENTIONS] = attrs.get(CONVENTIONS) or ours[CONVENTIONS]
    group.attrs.put({**attrs, **ours})
    for name, chunks in bad.items():
        for key in chunks.values():
            _set_aside(path, f"{name}/{key}", keep=name == "class_text")
    if ids_bad:
        for key in chunk_keys(arrays["sample_id"]):
            (path / "sample_id" / key).unlink(missing_ok=True)  # the manifest has them
        arrays["sample_id"][:] = np.array(list(sample_ids), dtype=object)
    if bad.get("class_text") and class_text is not None:
        arrays["class_text"][:] = np.asarray(class_text, dtype=np.float32)
    status[lost] = PENDING
    arrays["status"][:] = status
    return int(lost.sum())


def _unreadable(array: Array) -> dict[int, str]:
    """Return number and key of each chunk that cannot be read."""
    bad = {}
    for number, key in enumerate(chunk_keys(array)):
        try:
            read(array, _rows(array, number))
        except (CacheError, *DAMAGE):
            bad[number] = key
    return bad


def _rows(array: Array, chunk: int) -> slice:
    return slice(chunk * array.chunks[0], (chunk + 1) * array.chunks[0])


def _finite(array: Array, bad: Mapping[int, str]) -> np.ndarray:
    """Return which rows can be read and are finite, (N,) bool."""
    good = np.zeros(array.shape[0], dtype=bool)
    for number in range(-(-array.shape[0] // array.chunks[0])):
        if number not in bad:
            rows = _rows(array, number)
            good[rows] = np.isfinite(read(array, rows)).all(axis=(1, 2))
    return good


def _status(
    arrays: Mapping[str, Array], bad: Mapping[str, Mapping[int, str]], complete: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the status of every row, and which of it had to be found from the features."""
    array = arrays["status"]
    status = np.full(array.shape, 255, dtype=np.uint8)
    for number in range(-(-array.shape[0] // array.chunks[0])):
        if number not in bad["status"]:
            status[_rows(array, number)] = read(array, _rows(array, number))
    # In a complete store no row is pending, unless the chunk of its status is gone.
    unknown = ~np.isin(status, (DONE, FAILED) if complete else (PENDING, DONE, FAILED))
    if not unknown.any():
        return status, unknown
    sound = np.ones(len(status), dtype=bool)
    for name in _FEATURES:
        if name in arrays:
            sound &= _finite(arrays[name], bad[name])
    status[unknown] = np.where(sound, DONE, PENDING)[unknown]  # rows that are not done are NaN
    return status, unknown


def _ids_damaged(arrays: Mapping[str, Array]) -> bool:
    try:
        ids_of(arrays)
    except (CacheError, *DAMAGE):
        return True
    return False


def _set_aside(path: Path, key: str, keep: bool) -> None:
    """Move a chunk out of the store, or copy it if it is to be replaced at once."""
    place = path.with_name(path.name + ".damaged") / key
    place.parent.mkdir(parents=True, exist_ok=True)
    if keep:
        shutil.copyfile(path / key, place)
    else:
        (path / key).replace(place)


def _refuse_unknown(path: Path, group: Group, arrays: Mapping[str, Array]) -> None:
    recorded = group.attrs.get("digest")
    if recorded is not None and digest_of(arrays) != recorded:
        raise CacheError(
            f"{path}: the content does not have the recorded digest, but which rows have changed "
            "is not known (no chunk fails its checksum, or an older skelfew wrote it without "
            "any); skelfew-cache compare with another copy names them, or extract to another --out"
        )
