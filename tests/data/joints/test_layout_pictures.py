"""The page of layouts is what its command writes."""

import subprocess
from pathlib import Path

from warm import Warm

ROOT = Path(__file__).parents[3]


def test_the_page_and_its_pictures_are_up_to_date(warm: Warm, tmp_path: Path) -> None:
    command = [warm.python, ROOT / "tools/layout_pictures.py", tmp_path]
    subprocess.run(command, check=True, cwd=ROOT)
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert len(made) == 13
    for path in made:
        assert (ROOT / "docs" / path).read_text() == (tmp_path / path).read_text(), path
