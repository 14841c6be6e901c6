"""Readers of raw recordings: one module a format, each with a ``READER``.

To add a data set, write ``skelfew/data/readers/NAME.py`` with a ``READER`` and add its line to
``READERS``. A reader lists its source files and turns one of them into samples; walking over
them in parallel, writing, resuming and reporting are done once, in ``skelfew.data.prepare.walk``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skelfew.data.manifest import Sample
from skelfew.data.readers.raw import RawFolder
from skelfew.errors import SkelfewError
from skelfew.registry import Registry

if TYPE_CHECKING:  # the command lists READERS without loading NumPy and h5py
    from skelfew.data.joints.layouts import Layout
    from skelfew.data.store import Skeleton

__all__ = ["READERS", "Dropped", "Options", "RawFolder", "Reader", "Recording", "load_reader"]

READERS = Registry(
    "data set",
    "skelfew.readers",
    {
        "ntu": "skelfew.data.readers.ntu:READER",
        "nw-ucla": "skelfew.data.readers.ucla:READER",
        "utd-mhad": "skelfew.data.readers.utd:READER",
        "pku": "skelfew.data.readers.pku:READER",
        "msr": "skelfew.data.readers.msr:READER",
        "pyskl": "skelfew.data.readers.pyskl:READER",
        "ctrgcn-npz": "skelfew.data.readers.ctrgcn_npz:READER",
        "agcn-npy": "skelfew.data.readers.agcn_npy:READER",
        "own": "skelfew.data.readers.own:READER",
        # Poses come from videos, so this reader lives with the video code too.
        "video": "skelfew_extract.video_reader:READER",
        # The demo renders videos, so it lives with the video code; without PyAV it makes skeletons.
        "demo": "skelfew_extract.demoworld:READER",
    },
)

# What decodes videos, reads cameras and finds people in them; imported only when one is named.
VIDEO_DOOR = "skelfew_extract.video_reader"
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
    ".wmv", ".3gp", ".flv", ".ogv", ".y4m",
)  # fmt: skip

Options = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Recording:
    """One sample as read; frames and bodies come from the skeleton later, notes say what is odd."""

    sample: Sample
    skeleton: Skeleton
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """A sample, or a whole source file, that is left out, and why."""

    sample_id: str  # its name, or the stem of the file if it has none
    source: str  # the file, as listed by the reader's ``sources``
    reason: str  # why, with the place in the file and the value
    # True if the data set's authors or the user's options leave it out; False if the recording is
    # damaged, which ends the command with status 3
    expected: bool = False


@dataclass(frozen=True)
class Reader:
    """Reader of one raw format. Its functions are at module level, for other processes."""

    name: str  # data set name as typed on the command line
    layout: Layout | str  # joint layout, or the name of one
    # Lists the source names below the raw folder, cheaply and sorted
    sources: Callable[[RawFolder, Options], list[str]]
    # Turns one source into samples, one after the other; a malformed source is a Dropped. A
    # SkelfewError becomes a Dropped too; any other exception is a bug and ends the run.
    read: Callable[[RawFolder, str, Options], Iterable[Recording | Dropped]]
    channels: int = 3  # coordinates per joint
    units: str = "metres"  # ``metres``, or ``pixels`` (then a third channel is the confidence)
    pixels: bool = False  # whether joint positions in the video come with the skeletons
    # Options and their default values; ``--option key=value`` overrides them
    defaults: Options = field(default_factory=dict)
    needs_raw: bool = True  # whether ``--raw`` must be given (the demo makes its own)
    # For formats that hold more than one kind of skeleton: looks into the recordings and returns
    # this reader with ``layout``, ``channels``, ``units`` as found there
    detect: Callable[[Reader, RawFolder, Options], Reader] | None = None
    # Returns how the skeletons become network input where it is not as for NTU RGB+D: settings of
    # ``skelfew.data.input.pipeline.Pipeline``, kept in the store. Given is the highest class
    # number.
    preprocessing: Callable[[int], Mapping[str, str | int]] | None = None
    # What the samples depend on besides the options and the sizes of the sources, as a text; when
    # it has changed, an interrupted run does not go on but starts anew
    depends: Callable[[RawFolder, Options], str] | None = None

    @property
    def coordinates(self) -> int:
        """Number of channels that are a position: 2 in pictures, else 3."""
        return 2 if self.units == "pixels" else 3


def load_reader(name: str) -> Reader:
    """Import and return the reader called ``name``; raise SkelfewError listing what there is."""
    return READERS.load(name)


def parse_options(reader: Reader, given: Iterable[str]) -> dict[str, str | int | float | bool]:
    """Return the reader's options with ``key=value`` texts applied, typed like the defaults."""
    options = dict(reader.defaults)
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise SkelfewError(f"--option {text!r}: write it as key=value")
        if key not in options:
            known = ", ".join(f"{k}={v}" for k, v in reader.defaults.items()) or "none"
            raise SkelfewError(
                f"--option {key!r}: data set {reader.name} has no such option; "
                f"its options and their defaults: {known}"
            )
        options[key] = _typed(key, value, reader.defaults[key])
    return options


def _typed(key: str, text: str, default: str | int | float | bool) -> str | int | float | bool:
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        return type(default)(text)
    except (KeyError, ValueError):
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise SkelfewError(f"--option {key}={text}: expected {kind}") from None
