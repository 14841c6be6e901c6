"""The steps that made a cache: the attributes ``zarr_conventions`` and ``provenance:steps``."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version

from skelfew.io.files import Document, Values

STEPS = "provenance:steps"
CONVENTIONS = "zarr_conventions"
# BioImageTools/zarr-convention-provenance, by its identifier alone: see cache/README.md.
_CONVENTION = {"uuid": "0d4ef942-0f74-4187-ae72-016ddf083fe1"}
# Written by the writer of a store, never carried from one to another.
MANAGED = ("format", "format_version", "created", "complete", "digest", "shard", CONVENTIONS, STEPS)


# What a cache is, beside its features; fixed when it is created.
IDENTITY = ("dataset", "manifest_sha256", "skeletons_digest", "teacher", "preprocessing", "classes")


def identity(attrs: Values) -> str | None:
    """Return the SHA-256 of content digest (features, IDs), teacher and the rest, or None."""
    if attrs.get("digest") is None:
        return None
    known = {key: attrs.get(key) for key in ("digest", *IDENTITY)}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def step(name: str, parameters: Values | None = None, inputs: Iterable[Values] = ()) -> Document:
    """Return one entry of ``provenance:steps``: what was done, how, and from which inputs."""
    return {
        "name": name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": {"name": "skelfew", "version": version("skelfew")},
        "parameters": dict(parameters or {}),
        "inputs": [dict(entry) for entry in inputs],
    }


def steps_of(attrs: Values) -> list[Document]:
    """Return the recorded steps, without those that are not objects."""
    steps = attrs.get(STEPS)
    return [s for s in steps if isinstance(s, dict)] if isinstance(steps, list) else []


def declared(steps: Iterable[Values]) -> Document:
    """Return the two attributes for a cache that went through ``steps``."""
    return {CONVENTIONS: [_CONVENTION], STEPS: [dict(s) for s in steps]}


def carried(attrs: Values, last: Values) -> Document:
    """Return the attributes of a cache derived from one with ``attrs`` by the step ``last``."""
    kept = {key: value for key, value in attrs.items() if key not in MANAGED}
    ours = declared([*steps_of(attrs), last])
    others = attrs.get(CONVENTIONS)
    if isinstance(others, list):
        ours[CONVENTIONS] += [
            c for c in others if isinstance(c, dict) and c.get("uuid") != _CONVENTION["uuid"]
        ]
    return {**kept, **ours}
