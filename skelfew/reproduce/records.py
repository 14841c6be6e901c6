"""Results of the units: one JSON line each in runs/reproduce/records.jsonl, by key."""

import json
from pathlib import Path

from skelfew.errors import SkelfewError
from skelfew.io.budget import check_json
from skelfew.io.files import Document, Values, brief, check_file, parse_json
from skelfew.io.writing import append_line

# Outcomes that come out the same every time: they are results, not accidents.
FINAL_ERRORS = ("CollapseError", "NotFiniteError")


class Records:
    """The records of all tables below one folder; the last line of a key counts."""

    def __init__(self, folder: Path):
        self.path = folder / "records.jsonl"
        self._lines: dict[str, Document] = {}
        self._adopted: dict[str, Document] = {}
        self._read = 0
        self.refresh()

    def refresh(self) -> None:
        """Read what was added since; a last line that is cut off is left for later."""
        try:
            check_file(self.path, most=None)
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            check_json(new)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise SkelfewError(f"{self.path}: cannot be read ({brief(error)})") from None
        whole = new.rfind(b"\n") + 1
        self._read += whole
        for line in new[:whole].splitlines():
            try:
                record = parse_json(line)
                self._lines[str(record["key"])] = record
            except (ValueError, KeyError, TypeError):
                continue  # the remains of a write that a power cut ended

    def get(self, key: str) -> Document | None:
        """Return the record of a key."""
        return self._lines.get(key) or self._adopted.get(key)

    def settled(self, key: str) -> bool:
        """Whether a unit need not run again: scored, or failed as it always will."""
        record = self.get(key)
        return record is not None and ("error" not in record or record["kind"] in FINAL_ERRORS)

    def all(self) -> list[Document]:
        """Return all records of this folder, oldest first."""
        return list(self._lines.values())

    def adopt(self, record: Values) -> None:
        """Use a record from elsewhere where there is none; it is not written to the file."""
        self._adopted[str(record["key"])] = dict(record)

    def append(self, record: Values) -> None:
        """Add a record in one write, so that others reading and writing see whole lines."""
        append_line(self.path, json.dumps(dict(record), ensure_ascii=False), durable=True)
        self.refresh()
