import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from skelfew.io.files import read_csv
from skelfew.io.writing import append_line, no_link, write_csv, write_json, write_text, writing

WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "ours"),
    "json": lambda path: write_json(path, {}),
    "csv": lambda path: write_csv(path, ["a"], [["b"]]),
}


@pytest.mark.parametrize("suffix", ["", ".partial"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_link_is_replaced_and_what_it_leads_to_is_left(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "run" / "file"
    victim.write_text("theirs")
    path.parent.mkdir()
    Path(f"{path}{suffix}").symlink_to(victim)
    WRITERS[kind](path)
    assert victim.read_text() == "theirs"
    assert path.is_file() and not path.is_symlink() and list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), writing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_of_two_writers_the_first_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(OSError, match="another process"), writing(path) as first:
        first.write(b"first")
        with writing(path) as second:
            second.write(b"second")
    assert path.read_bytes() == b"second" and list(tmp_path.iterdir()) == [path]


def test_lines_are_added_through_no_link(tmp_path: Path) -> None:
    path, victim = tmp_path / "log.txt", tmp_path / "victim"
    victim.write_text("cut off")
    path.hardlink_to(victim)
    append_line(path, "a")
    append_line(path, "b")
    assert path.read_text() == "cut off\na\nb\n" and victim.read_text() == "cut off"
    path.unlink()
    path.symlink_to(victim)
    for write in (lambda: append_line(path, "c"), lambda: open(path, "w", opener=no_link)):  # noqa: SIM115
        with pytest.raises(OSError):
            write()
    assert victim.read_text() == "cut off"


def test_tables_compute_nothing_and_are_read_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    names = ["=1+1", "+cmd|x", "-a", "@sum", "'=1", "\t=1", "plain", "-1.5", "", "a,b\nc"]
    write_csv(path, ["name", "n"], [*([name, 1] for name in names), ["cut\ra\r\nb", 1]])
    assert read_csv(path, ["name"]) == [*((name,) for name in names), ("cut\na\nb",)]
    with path.open(newline="") as file:
        cells = [row[0] for row in csv.reader(file)][1:]
    assert [c for c in cells if c[:1] in tuple("=+-@\t\r") and c] == ["-1.5"]
