"""examples/quickstart.ipynb runs from its first cell to its last, and shows what it promises."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "quickstart.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not committed"
    monkeypatch.setenv("SKELFEW_QUICK", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [o for cell in done.cells for o in cell.get("outputs", [])]
    pictures = [o for o in outputs if {"image/png", "image/gif"} & set(o.get("data", {}))]
    printed = "".join(o.get("text", "") for o in outputs)
    assert len(pictures) == 3
    assert "132 recordings of 66 actions" in printed
    assert printed.count("chance 8.3 %") == 2
