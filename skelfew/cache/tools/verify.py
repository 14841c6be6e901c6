"""Whether a cache is whole, sane, and the one for a manifest."""

from pathlib import Path

import numpy as np

from skelfew.cache.format.checks import CacheError
from skelfew.cache.format.storage import DONE
from skelfew.cache.format.stored import StoredCache
from skelfew.cache.matching import match
from skelfew.data.manifest import Manifest
from skelfew.io.files import Document

_SHOWN = 5
_PART = 1024  # rows re-read at a time to find the unreadable ones
_FAR = 20.0  # a norm so many times above or below the median is no feature of this teacher


def verify(
    path: str | Path, manifest: Manifest | None = None, digest: str | None = None
) -> Document:
    """Read a whole cache once or twice, in blocks, and report what does not hold.

    IDs, order and hash are compared with ``manifest``, the content with ``digest``, else with the
    recorded one. Returns ``checks``, a list of ``{"check", "ok", "text", "samples"}`` (all rows
    concerned), and facts that the card does not have. Raises CacheError if it cannot be opened.
    """
    cache = StoredCache.open(path)
    report: Document = {"path": str(cache.path), "samples": cache.shape[0]}
    checks, unread = [], _unreadable(cache)
    if unread:
        text = f"{', '.join(unread)} cannot be read: {'; '.join(unread.values())}"
        checks.append(_entry("readable", False, text))
    if not {"sample_id", "status"} & set(unread):
        report |= cache.counts
        features = _features(cache, report)
        readable = not unread and all(c["ok"] for c in features if c["check"] == "finite")
        checks += [_digest(cache, digest, readable), *features]
        if manifest is not None:
            checks.append(_manifest(cache, manifest))
    report["checks"] = checks
    report["problems"] = [c["text"] for c in checks if not c["ok"]]
    return report


def _entry(check: str, ok: bool, text: str, samples: list[str] | None = None) -> Document:
    return {"check": check, "ok": ok, "text": text, "samples": samples or []}


def _unreadable(cache: StoredCache) -> dict[str, str]:
    """Return which of the arrays other than features cannot be read, and why."""
    found = {}
    for name, attribute in (("sample_id", "ids"), ("status", "status"), ("class_text",) * 2):
        try:
            getattr(cache, attribute)
        except CacheError as error:
            found[name] = str(error).partition("(")[2].partition(")")[0] or str(error)
    return found


def _digest(cache: StoredCache, wanted: str | None, readable: bool) -> Document:
    recorded = cache.attrs.get("digest")
    expected = wanted or recorded
    if not readable:
        return _entry("digest", False, "the digest cannot be computed: rows are damaged")
    if expected is None:
        text = "no digest is recorded: the extraction has not finished"
        return _entry("digest", cache.counts["pending"] > 0, text)
    found = cache.digest()
    if found != expected:
        what = "asked for" if wanted else "recorded"
        return _entry("digest", False, f"the content has digest {found}, {what} is {expected}")
    return _entry("digest", True, f"the content has the {'given' if wanted else 'recorded'} digest")


def _features(cache: StoredCache, report: Document) -> list[Document]:
    checks = []
    for name in cache.features:
        norms = np.full(len(cache.ids), np.nan)
        marks = np.zeros(len(cache.ids), dtype=np.int64)
        bad: list[int] = []
        for rows in cache.blocks():
            done = np.flatnonzero(cache.status[rows] == DONE) + rows.start
            if not len(done):
                continue
            for part, values in _read(cache, name, done):
                if values is None:
                    bad += part.tolist()
                    continue
                finite = np.isfinite(values).all(axis=(1, 2))
                bad += part[~finite].tolist()
                wide = values.astype(np.float32).reshape(len(values), -1)
                norms[part[finite]] = np.linalg.norm(wide[finite], axis=1)
                whole = np.ascontiguousarray(values).reshape(len(values), -1)
                texts = whole.view(f"V{whole[0].nbytes}")[:, 0].tolist()  # the bytes of each row
                marks[part] = np.fromiter(map(hash, texts), np.int64, len(texts))
        symbol = {"video": "f_v", "text": "f_t"}[name]
        named = [cache.ids[i] for i in bad]
        text = f"{symbol}: every row that is done can be read and is finite"
        if bad:
            text = f"{symbol}: {len(bad)} rows cannot be read or are not finite, {_some(named)}"
        checks.append(_entry("finite", not bad, text, named))
        sound = np.flatnonzero(np.isfinite(norms))
        checks.append(_norms(cache, symbol, norms, sound, report))
        checks.append(_duplicates(cache, symbol, marks, sound))
    return checks


def _read(
    cache: StoredCache, name: str, rows: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Return the rows with their values, in parts; None for a part that cannot be read."""
    try:
        return [(rows, cache.read(name, rows))]
    except CacheError:
        parts: list[tuple[np.ndarray, np.ndarray | None]] = []
        size = max(_PART, cache.arrays[name].chunks[0])  # a large chunk is tried once
        for number in np.unique(rows // size):
            part = rows[rows // size == number]
            try:
                parts.append((part, cache.read(name, part)))
            except CacheError:
                parts.append((part, None))
        return parts


def _norms(
    cache: StoredCache, symbol: str, norms: np.ndarray, sound: np.ndarray, report: Document
) -> Document:
    if not len(sound):
        return _entry("norms", True, f"{symbol}: no row to measure")
    values = norms[sound]
    middle = float(np.median(values))
    low, high = float(values.min()), float(values.max())
    report[f"norm_{symbol}"] = {"min": low, "median": middle, "max": high}
    far = sound[(values * _FAR < middle) | (values > _FAR * middle) | (values == 0)]
    named = [cache.ids[i] for i in far]
    text = f"{symbol}: norms {low:.4g} to {high:.4g}, median {middle:.4g}"
    if named:
        text += f"; {len(named)} are zero or {_FAR:.0f} times from the median, {_some(named)}"
    return _entry("norms", not named, text, named)


def _duplicates(cache: StoredCache, symbol: str, marks: np.ndarray, sound: np.ndarray) -> Document:
    _, first, counts = np.unique(marks[sound], return_inverse=True, return_counts=True)
    twins = sound[counts[first] > 1]
    named = [cache.ids[i] for i in twins]
    if not named:
        return _entry("duplicates", True, f"{symbol}: no two samples share a vector")
    groups = int((counts > 1).sum())
    text = f"{symbol}: {len(named)} samples share {groups} vectors, {_some(named)}"
    # A text that does not depend on the clip is the same for all samples of a class.
    return _entry("duplicates", symbol == "f_t", text, named)


def _manifest(cache: StoredCache, manifest: Manifest) -> Document:
    where, ids = manifest.path or manifest.name, set(manifest.ids)
    stored = set(cache.ids)
    if stored != ids:
        named = [i for i in [*manifest.ids, *cache.ids] if (i in ids) != (i in stored)]
        return _entry("manifest", False, match(cache.ids, manifest.ids).explain(), named)
    recorded = cache.attrs.get("manifest_sha256")
    if recorded != manifest.sha256:
        text = f"same samples, but the manifest has SHA-256 {manifest.sha256}, recorded {recorded}"
        return _entry("manifest", False, text)
    if cache.ids != manifest.ids:
        return _entry("manifest", False, f"the samples of {where}, but in another order")
    return _entry("manifest", True, f"the samples of {where}, in its order, and its hash")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"first {', '.join(names[:_SHOWN])}{more}"
