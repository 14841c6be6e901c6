"""docs/tutorial.md runs as printed; `import skelfew` loads nothing heavy."""

import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import skelfew

REPOSITORY = Path(__file__).resolve().parents[2]
TAUGHT = {"circle", "push", "wave"}


def blocks() -> list[str]:
    text = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def execute(folder: Path, code: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    printed = StringIO()
    names: dict[str, object] = {}
    with redirect_stdout(printed):
        for block in code:
            exec(compile(block, "docs/tutorial.md", "exec"), names)
    return printed.getvalue()


def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = execute(tmp_path, blocks(), monkeypatch)
    answers = re.findall(r"^new/(\w+)/take\d\.npy: (\w+) \(", printed, re.MULTILINE)
    assert len(answers) == 11
    assert all(label == (name if name in TAUGHT else "None") for name, label in answers), printed
    assert "('circle', 'push', 'wave') from 9 recordings" in printed
    assert "none of these below similarity" in printed
    assert "an array: wave" in printed
    assert re.findall(r"^frame \d+: (\w+)$", printed, re.MULTILINE) == ["circle", "wave"]
    assert len(blocks()[1].strip().splitlines()) <= 20


def test_the_public_names_are_listed_and_lazy() -> None:
    text = (
        (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8").split("public names")[1]
    )
    assert set(re.findall(r"`(\w+)`", text)) <= set(skelfew.__all__)
    reference = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"::: skelfew\.(\w+)\n", reference + "\n")) == set(skelfew.__all__)
    for name in skelfew.__all__:
        assert getattr(skelfew, name).__doc__
        assert name in dir(skelfew)
    with pytest.raises(AttributeError, match="no attribute 'nothing'; it has"):
        _ = skelfew.nothing
    code = (
        "import skelfew, sys; print(sorted({'torch', 'numpy', 'h5py', 'zarr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
