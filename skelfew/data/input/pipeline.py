"""Settings of the network input, with the reference's as defaults."""

from dataclasses import asdict, dataclass

from skelfew.data.input import MissingBody, Stream, alignment, preprocess
from skelfew.errors import SkelfewError
from skelfew.io.files import Document, Values, brief, shown

KINDS = ("ntu", "ucla")
_LONGEST = 10_000  # frames given to the network


@dataclass(frozen=True)
class Pipeline:
    """Settings of the network input; defaults are CTR-GCN's for NTU RGB+D.

    Attributes:
        kind: ``ntu``: crop, resize in time, small random rotation (CTR-GCN, feeders/feeder_ntu.py).
            ``ucla``: large random view rotation, scaling to a box, drawn frames
            (feeders/feeder_ucla.py).
        length: T, frames given to the network.
        missing_body: What fills the slot of an absent body, see ``preprocess.align``.
        stream: ``joint``, ``bone``, ``joint_motion`` or ``bone_motion``.
        coordinates: How many channels are positions: 3, or 2 for pixels (a third channel is then
            a confidence), which are scaled to body lengths.
        train_interval: Smallest and largest share of the frames that a training crop keeps.
        test_interval: Share of the frames that is kept at test time.
        rotation: Largest angle about each axis in training, radians (``ntu``); with 2 coordinates,
            in the picture.
        stretch: With 2 coordinates, largest change of width and of height in training, as a share
            (``ntu``).
        view_degrees: Largest angle about x and y in training, whole degrees (``ucla``; with 3
            coordinates).
        root: Where the origin is: ``first``, ``each`` or ``level``, see ``alignment.alignment``.
        facing: ``recorded``, or turned to the ``camera``, likewise.
        size: ``recorded``, or divided by that of the ``body``, likewise.
    """

    kind: str = "ntu"
    length: int = 64
    missing_body: MissingBody = "duplicate"
    stream: Stream = "joint"
    coordinates: int = 3
    train_interval: tuple[float, float] = (0.5, 1.0)
    test_interval: float = 0.95
    rotation: float = 0.3
    stretch: float = 0.2
    view_degrees: int = 60
    root: str = "first"
    facing: str = "recorded"
    size: str = "recorded"

    def __post_init__(self) -> None:
        for name, choices in (
            ("kind", KINDS),
            ("missing_body", preprocess.MISSING_BODY),
            ("stream", preprocess.STREAMS),
            ("coordinates", (2, 3)),
            ("root", alignment.ROOTS),
            ("facing", alignment.FACINGS),
            ("size", alignment.SIZES),
        ):
            if (value := getattr(self, name)) not in choices:
                expected = ", ".join(map(str, choices))
                raise SkelfewError(f"pipeline: {name} is {shown(value)}; expected {expected}")
        if type(self.length) is not int or self.length > _LONGEST:
            raise SkelfewError(
                f"pipeline: length is {shown(self.length)}; expected a number up to {_LONGEST}"
            )
        object.__setattr__(self, "train_interval", tuple(self.train_interval))  # a list from JSON
        low, high = self.train_interval
        if not (0 < low <= high <= 1 and 0 < self.test_interval <= 1 and self.length >= 1):
            raise SkelfewError(
                f"pipeline: length {self.length} must be positive, train_interval "
                f"{self.train_interval} and test_interval {self.test_interval} shares in (0, 1]"
            )
        if not 0 <= self.stretch < 1:
            raise SkelfewError(f"pipeline: stretch is {self.stretch}; expected a share in [0, 1)")

    @property
    def aligned(self) -> bool:
        """Whether bodies are aligned, beyond one shift of each recording."""
        return (self.root, self.facing, self.size) != ("first", "recorded", "recorded")

    @property
    def alignment(self) -> dict[str, str]:
        """The settings of ``alignment.alignment``."""
        return {"root": self.root, "facing": self.facing, "size": self.size}

    @classmethod
    def for_data(cls, declared: Values | None, name: str, **changes: object) -> "Pipeline":
        """Return the pipeline of a data set.

        Args:
            declared: What its reader declared, ``SkeletonStore.preprocessing``. None, in stores of
                earlier versions: the rule that they had, by the name of the data set.
            changes: Attributes to set otherwise; None keeps the data set's own. ``missing_body``
                may be ``auto``: as in CTR-GCN's scripts, zeros for NTU-60 and a copy elsewhere.

        Raises:
            SkelfewError: Something declared is no setting, or has an impossible value.
        """
        settings = dict(by_name(name) if declared is None else declared)
        missing_body = settings.pop("missing_body", "duplicate")
        settings |= {key: value for key, value in changes.items() if value is not None}
        if settings.get("missing_body") == "auto":
            settings["missing_body"] = missing_body
        return cls.from_dict(settings, f"preprocessing of {name or 'the data set'}")

    @classmethod
    def from_dict(cls, values: Values, where: str) -> "Pipeline":
        """Return what ``to_dict`` gave; raise SkelfewError, with ``where``, if it is none."""
        try:
            return cls(**values)
        except SkelfewError as error:
            raise SkelfewError(f"{where}: {error}") from None
        except (TypeError, ValueError) as error:
            raise SkelfewError(f"{where}: no pipeline ({brief(error)})") from None

    def to_dict(self) -> Document:
        """Return plain values; ``from_dict`` is the inverse."""
        return asdict(self)


def by_name(name: str) -> Document:
    """Return the preprocessing of a data set in stores that declare none: by its name."""
    plain = name.replace("-", "").replace("_", "")
    if plain.startswith("nwucla"):
        return {"kind": "ucla", "length": 52}
    return {"missing_body": "zeros"} if plain.startswith("ntu60") else {}


def undeclared(declared: Values | None, name: str) -> str | None:
    """Return a note if a store declares no preprocessing, so that the name has to decide."""
    if declared is not None:
        return None
    kind = Pipeline.for_data(None, name).kind
    return (
        f"the skeletons of {name} were prepared by an earlier version and declare no preprocessing;"
        f" by the name of the data set it is {kind}'s; skelfew-prepare writes it down"
    )
