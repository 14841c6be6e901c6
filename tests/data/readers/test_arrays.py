"""Arrays of joints: the order of their axes follows from their shape, or is refused."""

import numpy as np
import pytest

from skelfew.data.readers.arrays import to_bodies
from skelfew.errors import SkelfewError

RNG, V = np.random.default_rng(0), 5


def solid(frames: int = 9) -> np.ndarray:
    return RNG.normal(size=(frames, 20, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "order", "found"),
    [
        ((40, V, 3), "tvc", (1, 40, V, 3)),
        ((40, V * 2), "tvc", (1, 40, V, 2)),
        ((2, 40, V, 3), "mtvc", (2, 40, V, 3)),
        ((40, 2, V, 3), "tmvc", (2, 40, V, 3)),
        ((3, 40, V), "ctv", (1, 40, V, 3)),
        ((V, 3, 40), "vct", (1, 40, V, 3)),
        ((3, 40, V, 1), "ctvm", (1, 40, V, 3)),
        ((1, 1, V, 3), "mtvc", (1, 1, V, 3)),
    ],
)
def test_the_order_of_axes_follows_from_the_shape(
    shape: tuple[int, ...], order: str, found: tuple[int, ...]
) -> None:
    values = RNG.normal(size=shape)
    bodies = to_bodies(values, V)
    assert bodies.shape == found and bodies.dtype == np.float32
    np.testing.assert_array_equal(bodies, to_bodies(values, V, order))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 6, V, 3), r"shape \(2, 6, 5, 3\) can be read as mtvc or tmvc"),
        ((3, 40, V, 2), r"can be read as mtvc or ctvm"),
        ((2, 2, V, 3), r"can be read as mtvc or tmvc"),
        ((40, V + 1, 3), r"shape \(40, 6, 3\), expected .* the layout has 5 joints"),
        ((40, V, 5), r"shape \(40, 5, 5\)"),
        ((0, V, 3), r"shape \(0, 5, 3\)"),
        ((40,), r"shape \(40,\)"),
        ((9, 30, V, 3), r"shape \(9, 30, 5, 3\)"),
    ],
)
def test_other_shapes_are_refused_by_name(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SkelfewError, match=message):
        to_bodies(np.ones(shape) + np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)), V)


@pytest.mark.parametrize("order", ["cvt", "tcv", "vct", "ctv", "vtc", "tvc"])
def test_every_order_of_three_axes(order: str) -> None:
    joints = solid()
    given = joints.transpose(["tvc".index(axis) for axis in order])
    np.testing.assert_array_equal(to_bodies(given, 20)[0], joints)
    square = solid(20).transpose(["tvc".index(axis) for axis in order])
    if order not in ("tvc", "vtc"):
        with pytest.raises(SkelfewError, match=r"can be read as .*--option order="):
            to_bodies(square, 20)
    np.testing.assert_array_equal(
        to_bodies(square, 20, order)[0], square.transpose([order.index(a) for a in "tvc"])
    )


def test_as_many_frames_as_joints() -> None:
    """The usual order where time runs along the first axis, refused where along the second."""
    moving = solid(1) + 0.01 * solid(20).cumsum(axis=0)
    np.testing.assert_array_equal(to_bodies(moving, 20)[0], moving)
    with pytest.raises(SkelfewError, match="can be read as tvc or vtc"):
        to_bodies(moving.swapaxes(0, 1), 20)
