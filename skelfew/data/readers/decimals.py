"""Decimal numbers out of text, thousands at a time.

The digits of all numbers are combined in a few NumPy operations, eight characters as one 64-bit
word, as simdjson and fast_float do (D. Lemire, "Number parsing at a gigabyte per second", 2021,
Sec. 5). Results are those of ``float()``: up to 15 digits make an exact whole number, which is
divided once by an exact power of ten.
"""

import numpy as np

_BLOCK = 8192  # numbers at a time; more would need fresh memory from the system each time
_LEAD = 16  # characters needed before the first number
_DIGITS = 15  # of a number; more do not fit exactly into a float64
_POWERS = 10.0 ** np.arange(_DIGITS + 1)
_NO_POINT = 135  # what ``_places`` returns where there is none: 7 + 128 (1023 // 8, rounded up)
# Keeps the last so many of the eight characters of a word; the first is the lowest byte.
_KEEP = np.array([(2**64 - 1) << 8 * (8 - n) & (2**64 - 1) for n in range(9)], dtype=np.uint64)
_BYTE = np.uint64(8)
_POINT, _ZERO, _ONE, _TOP, _ABOVE_NINE = (
    np.uint64(byte * 0x0101010101010101) for byte in (ord("."), ord("0"), 1, 0x80, 0x80 - 10)
)


def decimals(text: bytes, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the numbers at ``text[start:end]``, float64 (n,), equal to ``float()``.

    Fast for numbers with a point and no exponent. At least 16 characters precede the first; ``end``
    is one past a number's last. Raises ValueError if one is no number.
    """
    if len(start) and int(start.min()) < _LEAD:
        raise ValueError(f"a number starts at {int(start.min())}, before character {_LEAD}")
    values = np.empty(len(start))
    for first in range(0, len(start), _BLOCK):
        block = slice(first, first + _BLOCK)
        values[block] = _block(text, start[block], end[block])
    return values


def _block(text: bytes, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    characters = np.frombuffer(text, np.uint8)
    words = np.ndarray((max(len(text) - 7, 0),), "<u8", text, 0, (1,))  # at every character
    negative = characters.take(start) == ord("-")
    length = end - start
    length -= negative
    last = words[end - 8]
    places = _places(last, length)
    # Close the gap that the point leaves: what comes before it moves by a character.
    digits = last << _BYTE
    digits |= characters.take(end - 9)
    digits ^= (digits ^ last) & _KEEP.take(places, mode="clip")
    joined, sound = _join(digits, length - 1)
    values: np.ndarray = joined / _POWERS.take(places, mode="clip")
    longer = np.flatnonzero(length > 9)
    if longer.size:
        head, places[longer], head_sound = _head(
            words[end[longer] - 16], length[longer], places[longer]
        )
        values[longer] = head * _POWERS[8] + joined[longer]
        values[longer] /= _POWERS.take(places[longer], mode="clip")
        sound[longer] &= head_sound
    sound &= (places < _NO_POINT) & (length > 1)
    np.negative(values, out=values, where=negative)
    for i in np.flatnonzero(~sound):  # exponents, NaN, no point, more digits
        values[i] = float(text[start[i] : end[i]])
    return values


def _head(
    words: np.ndarray, length: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the digits before the last eight, the true places, and whether all is right."""
    inside = _places(words, length - 8) + 8
    places = np.where(places < 8, places, inside)
    digits = words << _BYTE
    digits ^= (digits ^ words) & _KEEP.take(places - 8, mode="clip")
    joined, sound = _join(digits, length - 9)
    return joined, places, sound & (length <= _DIGITS + 1)


def _places(words: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return how many characters follow the point in the last ``length`` characters of words."""
    difference = words ^ _POINT
    # The top bit of each byte that is a point; wrong at most in bytes above a true one.
    points = (difference - _ONE) & ~difference
    points &= _TOP
    points &= _KEEP.take(length, mode="clip")
    # The exponent of a float is the place of its highest bit.
    return _NO_POINT - (points.astype(np.float64).view(np.int64) >> 55)


def _join(digits: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the last ``count`` characters of words as numbers, and whether they are digits."""
    joined = digits ^ _ZERO
    joined &= _KEEP.take(count, mode="clip")
    sound = ((joined + _ABOVE_NINE) | joined) & _TOP == 0
    joined *= np.uint64(10 << 8 | 1)
    joined >>= np.uint64(8)
    joined &= np.uint64(0x00FF00FF00FF00FF)
    joined *= np.uint64(100 << 16 | 1)
    joined >>= np.uint64(16)
    joined &= np.uint64(0x0000FFFF0000FFFF)
    joined *= np.uint64(10000 << 32 | 1)
    joined >>= np.uint64(32)
    return joined.astype(np.float64), sound
