"""Joints of the person in front of a camera, picture by picture."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from skelfew.data.readers import Options
from skelfew_extract.camera import pictures
from skelfew_extract.pose import Estimator, find_model
from skelfew_extract.poses import VISIBLE, find_in

LIVE_SIDE = 320  # pixels of the longer side of the pictures that poses are estimated in


@dataclass(frozen=True)
class Moment:
    """A picture, RGB uint8 (H, W, 3), and the person in it."""

    time: float  # seconds since the first picture
    image: np.ndarray
    # (33, 6) as ``Estimator.find`` returns, in pixels of the picture; None for no person
    person: np.ndarray | None
    visible: float  # joints of a smaller visibility count as not found

    @property
    def pixels(self) -> np.ndarray | None:
        """Joints in the picture (1, 33, 2), NaN where not found."""
        return None if self.person is None else self._found(self.person[:, :2])[None]

    def joints(self, coordinates: int) -> np.ndarray | None:
        """Return the joints (33, coordinates), NaN where not found: metres, or pixels in 2D."""
        if self.person is None:
            return None
        return self._found(self.person[:, 3:] if coordinates == 3 else self.person[:, :2])

    def _found(self, values: np.ndarray) -> np.ndarray:
        assert self.person is not None
        return np.where(self.person[:, 2:3] < self.visible, np.nan, values)


def live(source: str, options: Options) -> Iterator[Moment]:
    """Yield the moments of a camera or a video file."""
    visible = float(options.get("visibility", VISIBLE))
    begun: float | None = None
    with Estimator(find_model(str(options.get("pose_model", "lite"))), people=1) as estimator:
        for picture in pictures(source):
            begun = picture.time if begun is None else begun
            at = picture.time - begun
            people = find_in(estimator, picture.image, at, LIVE_SIDE)
            yield Moment(at, picture.image, people[0] if len(people) else None, visible)
