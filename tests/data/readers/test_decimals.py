"""Numbers out of text are those of float(), bit for bit, and what is none is refused."""

import random

import numpy as np
import pytest

from skelfew.data.readers.decimals import decimals

SPECIAL = [
    "0", "-0", "0.0", "-0.0", "5.", ".5", "-.5", "007.50", "1e5", "-1.5E-05", "+4.5", "nan", "-inf",
    "0.1", "12345678", "123456789", "0.00000001", "-0.123456789012345", "1234567890.12345",
    "12345678.9", "1234567.89", "1.23456789", "123456789012345.6", "9999999999999999", "1_0.5",
]  # fmt: skip


def texts(count: int) -> list[str]:
    draw = random.Random(0)
    found = list(SPECIAL)
    for _ in range(count):
        value = draw.uniform(-1, 1) * 10.0 ** draw.randrange(-6, 9)
        found += [f"{value:.7g}", f"{value:.{draw.randrange(12)}f}", str(value)]
        found.append("".join(draw.choice("0123456789.-e") for _ in range(draw.randrange(1, 18))))
    return found


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read(words: list[str]) -> np.ndarray:
    text = " " * 16 + " ".join(words) + "\n"
    lengths = np.array([len(word) for word in words])
    end = 16 + np.cumsum(lengths + 1) - 1
    return decimals(text.encode(), end - lengths, end)


def test_numbers_equal_those_of_float() -> None:
    words = [text for text in texts(4000) if is_number(text)]
    expected = np.array([float(word) for word in words])
    assert len(words) > 12000
    found = read(words)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_what_is_no_number_is_refused() -> None:
    wrong = [text for text in texts(1500) if not is_number(text)]
    wrong += [".", "-", "-.", "1.2.3", "1-2", "--1", "1.5x", "0x10", "1/2.5", "1,5", "\x001.5"]
    assert len(wrong) > 400
    for text in wrong:
        with pytest.raises(ValueError):
            read(["1.25", text, "3.75"])


def test_none_and_too_early_ones() -> None:
    nothing = np.array([], dtype=np.int64)
    assert decimals(b"", nothing, nothing).shape == (0,)
    with pytest.raises(ValueError, match="before character 16"):
        decimals(b"1.5 " * 8, np.array([4]), np.array([7]))
