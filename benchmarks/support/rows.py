"""Rows of several parts, printed a line each."""

from collections.abc import Mapping, Sequence
from typing import Any


def show(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Print every part's name and its rows as ``key value`` pairs."""
    for part, rows in parts.items():
        print(f"\n{part}")
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()))
