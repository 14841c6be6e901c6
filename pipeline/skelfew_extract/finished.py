"""Whether a cache holds all that is asked for: found out without loading a network."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from skelfew.cache import DONE, FAILED, PENDING
from skelfew.cache.format.checks import check_format
from skelfew.cache.format.storage import DAMAGE, arrays_of, digest_of, open_group, read
from skelfew.data.manifest import Manifest
from skelfew.io.files import Document
from skelfew_extract.failures import Failures
from skelfew_extract.summary import ExtractionSummary


def finished(
    out: Path,
    manifest: Manifest,
    same: Callable[[Document], bool],
    rows: tuple[int, int],
    *,
    dtype: str,
    views: int = 1,
    retry: bool = False,
) -> ExtractionSummary | None:
    """Return the summary of a run that has nothing to do; None if it may have something to do.

    None also if something is wrong with the cache, or if it was made from something else: the
    ordinary way says what. ``same`` takes the cache's attributes and returns whether it was made as
    is asked for; ``rows`` are the first asked for and one past the last; ``retry`` does failed ones
    again.
    """
    began = time.monotonic()
    if not out.is_dir():
        return None
    try:
        group = open_group(out)
        attrs = check_format(out, dict(group.attrs))
        arrays = arrays_of(out, group)
        status: np.ndarray = read(arrays["status"])
        text, asked = arrays["text"], status[slice(*rows)]
        if (
            (asked == PENDING).any()
            or (retry and (asked == FAILED).any())
            or (*text.shape[:2], text.dtype.name) != (len(manifest), views, dtype)
            or attrs.get("manifest_sha256") != manifest.sha256
            or attrs.get("dataset") != manifest.name
            or not same(attrs)
            or attrs["digest"] != digest_of(arrays)
        ):
            return None
    except DAMAGE:  # SkelfewError among it
        return None
    count = {s: int((status == s).sum()) for s in (PENDING, DONE, FAILED)}
    failed = [manifest.ids[i] for i in np.flatnonzero(status == FAILED)]
    failures = Failures.beside(out, failed)
    failures.write()
    return ExtractionSummary(
        cache=str(out),
        samples=len(manifest),
        done=count[DONE],
        failed=count[FAILED],
        pending=count[PENDING],
        extracted=0,
        centred=0,
        seconds=round(time.monotonic() - began, 2),
        clips_per_second=0.0,
        digest=attrs["digest"],
        failures=str(failures.path) if failed else "",
    )
