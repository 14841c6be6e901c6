"""Summary of a cache: for people and as JSON."""

from pathlib import Path

from skelfew.cache.format.history import identity, steps_of
from skelfew.cache.format.stored import StoredCache
from skelfew.io.files import Document


def card(path: str | Path) -> Document:
    """Return what a receiver wants to know, from metadata and status; the recorded digest."""
    cache = StoredCache.open(path)
    attrs = cache.attrs
    samples, views, width = cache.shape
    return {
        "path": str(cache.path),
        "format_version": attrs["format_version"],
        "dataset": attrs.get("dataset"),
        "manifest_sha256": attrs.get("manifest_sha256"),
        "skeletons_digest": attrs.get("skeletons_digest"),
        "samples": samples,
        **cache.counts,
        "complete": cache.counts["pending"] == 0,
        "shard": attrs.get("shard"),
        "features": list(cache.features),
        "views": views,
        "width": width,
        "dtype": cache.dtype,
        "classes": len(classes) if isinstance(classes := attrs.get("classes"), list) else None,
        "teacher": attrs.get("teacher"),
        "untrained": bool(attrs.get("untrained"))
        or _object(attrs.get("teacher")).get("trained") is False,
        "preprocessing": attrs.get("preprocessing"),
        "software": attrs.get("software"),
        "created": attrs.get("created"),
        "licence_note": attrs.get("licence_note") or "",
        "bytes": cache.bytes,
        "digest": attrs.get("digest"),
        "identity": identity(attrs),
        "steps": steps_of(attrs),
    }


def lines(document: Document) -> list[tuple[str, str]]:
    """Return a card as names and texts."""
    teacher, made = _object(document["teacher"]), _object(document["preprocessing"])
    weights = str(teacher.get("weights_sha256") or "unknown")
    state = "UNTRAINED, its features are random" if document["untrained"] else "trained"
    views = f", {document['views']} views" if document["views"] > 1 else ""
    symbols = [{"video": "f_v", "text": "f_t"}[name] for name in document["features"]]
    return [
        ("cache", document["path"]),
        ("data set", f"{document['dataset']}, {document['classes']} classes"),
        ("manifest", str(document["manifest_sha256"] or "unknown")),
        ("samples", _samples(document)),
        ("teacher", f"{teacher.get('name')} ({state})"),
        ("weights", f"{teacher.get('weights') or 'unknown'}, SHA-256 {weights}"),
        ("features", f"{', '.join(symbols)}, width {document['width']}, "
                     f"{document['dtype']}{views}"),
        ("preprocessing", ", ".join(f"{k} {_short(v)}" for k, v in made.items()) or "unknown"),
        ("size", f"{document['bytes'] / 1e6:,.1f} MB"),
        ("digest", str(document["digest"] or "none yet: the rows are still being written")),
        ("identity", str(document["identity"] or "none yet")),
        ("created", f"{document['created']}"),
        ("steps", ", ".join(str(s.get("name")) for s in document["steps"]) or "not recorded"),
        ("licence note", document["licence_note"] or "none; ask the sender"),
    ]  # fmt: skip


def _samples(document: Document) -> str:
    text = f"{document['done']:,} of {document['samples']:,} done"
    text += f", {document['failed']:,} failed" if document["failed"] else ""
    text += f", {document['pending']:,} pending" if document["pending"] else ""
    shard = document["shard"]
    if document["pending"] and isinstance(shard, dict) and {"index", "of"} <= set(shard):
        text += f"; shard {shard['index']} of {shard['of']}"
    return text


def _object(value: object) -> Document:
    return value if isinstance(value, dict) else {}


def _short(value: object) -> str:
    if isinstance(value, list):
        return "/".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)
    return str(value)
