"""examples/quickstart.ipynb runs from its first cell to its last, and shows what it promises."""

import json
from pathlib import Path

import pytest
from warm import Warm

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "quickstart.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a warm kernel, whose commands are warm too."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not committed"
    monkeypatch.setenv("SKELFEW_QUICK", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    line = [warm.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = tmp_path / "kernels" / "warm" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": line, "display_name": "warm", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    done = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="warm", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [o for cell in done.cells for o in cell.get("outputs", [])]
    pictures = [o for o in outputs if {"image/png", "image/gif"} & set(o.get("data", {}))]
    printed = "".join(o.get("text", "") for o in outputs)
    assert len(pictures) == 3
    assert "132 recordings of 66 actions" in printed
    assert printed.count("chance 8.3 %") == 2
