"""Summary of an extraction: for the person who ran it, and in the cache."""

import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from skelfew.io.files import Document


@dataclass(frozen=True)
class ExtractionSummary:
    """Counts of an extraction and of its cache, earlier runs included.

    Attributes:
        pending: Rows left over, because of ``limit``.
        centred: Clips of this run that were cut without joints.
        seconds: Of this run, without loading the teacher.
        failures: The file that lists the failed samples, "" if there are none.
        damaged: Rows that ``--repair`` found damaged.
        restored: Whether the content is again what it was before; None if nothing tells.
    """

    cache: str
    samples: int
    done: int
    failed: int
    pending: int
    extracted: int
    centred: int
    seconds: float
    clips_per_second: float
    digest: str
    failures: str
    damaged: int = 0
    restored: bool | None = None

    def as_dict(self) -> Document:
        """Return the fields, for JSON."""
        return asdict(self)


def software(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of installed distributions ("absent" if not), Python and system."""
    return {
        **{name: _version(name) for name in distributions},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"
