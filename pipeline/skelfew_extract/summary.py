"""Summary of an extraction: for the person who ran it, and in the cache."""

import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from skelfew.io.files import Document


@dataclass(frozen=True)
class ExtractionSummary:
    """Counts of an extraction and of its cache, earlier runs included."""

    cache: str
    samples: int
    done: int
    failed: int
    pending: int  # rows left over, because of ``limit``
    extracted: int
    centred: int  # clips of this run that were cut without joints
    seconds: float  # of this run, without loading the teacher
    clips_per_second: float
    digest: str
    failures: str  # the file that lists the failed samples, "" if there are none
    damaged: int = 0  # rows that ``--repair`` found damaged
    # Whether the content is again what it was before; None if nothing tells
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
