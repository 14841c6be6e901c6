"""What scripts are asked, and print: one JSON document, or lines of ``key value`` pairs."""

import argparse
import json
from collections.abc import Mapping
from typing import Any


def options(about: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--json``; ``about`` is the docstring of a script."""
    parser = argparse.ArgumentParser(description=(about or "").split("\n", 1)[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def line(row: Mapping[str, Any]) -> None:
    """Print a row."""
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


def report(name: str, as_json: bool, **found: Any) -> None:
    """Print what a benchmark found; as lines, single values first, then each list row by row."""
    if as_json:
        print(json.dumps({"benchmark": name, **found}, indent=2))
        return
    line({key: value for key, value in found.items() if not isinstance(value, list)})
    for part, rows in found.items():
        if isinstance(rows, list):
            print(f"\n{part}")
            for row in rows:
                line(row)
