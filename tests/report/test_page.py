"""What a page says, and what it says is missing."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_world import call, run_report

from skelfew.cli.evaluate import main as evaluate
from skelfew.encoders.checkpoints import load_encoder, save_encoder
from skelfew.errors import SkelfewError
from skelfew.report.charts import line_chart, ticks
from skelfew.report.collect import find_runs, read_run
from skelfew.report.embedding import place
from skelfew.report.markup import Safe, data_block, join, tag
from skelfew.report.page import make_page


class Text(HTMLParser):
    """What a reader sees of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.words: list[str] = []
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    def __str__(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(folder: Path, *arguments: str) -> str:
    run_report(folder, "runs/one", "--html", "page.html", *arguments)
    return str(Text((folder / "page.html").read_text()))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_scores_provenance_and_notes(world: Path, tmp_path: Path) -> None:
    run_report(world, "runs/one", "--html", str(tmp_path / "a" / "page.html"))
    text = str(Text((tmp_path / "a" / "page.html").read_text()))
    document = json.loads(next((world / "runs" / "one" / "results").glob("*.json")).read_text())
    micro = document["rows"][0]["micro"]
    assert f"{100 * micro['value']:.1f} %" in text
    assert f"{100 * micro['low']:.1f} to {100 * micro['high']:.1f}" in text
    assert "the teacher (toy) was UNTRAINED" in text and "toy (UNTRAINED)" in text
    assert document["data"]["manifest_sha256"] in text
    assert re.search(r"encoder.width 0\.125 1\.0", text), "what differs from the preset"
    assert "transfer, then episodic" in text and "Stage episodic" in text
    assert "No map of the embeddings: skelfew-report --embed computes it." in text


def test_a_card_has_the_notes_of_its_own_run(copy: Path) -> None:
    runs = copy / "runs"
    shutil.copytree(runs / "one", runs / "two")
    shutil.rmtree(runs / "one" / "results")
    encoder, metadata = load_encoder(runs / "one" / "encoder.safetensors")
    save_encoder(runs / "two" / "encoder.safetensors", encoder, {**metadata, "init": "third"})
    both = ("--run=runs/one", "--run=runs/two", "--raw", "--threads=1")
    shutil.rmtree(runs / "two" / "results")
    call(copy, evaluate, *both)
    run_report(copy, "runs", "--html", "page.html")
    cards = re.findall(r"<li><p class=\"what\"><b class=\"who\">(.*?)</b>(.*?)</li>",
                       (copy / "page.html").read_text(), re.DOTALL)  # fmt: skip
    noted = {who: ("began from third" in card, "UNTRAINED" in card) for who, card in cards}
    assert noted.pop("one") == (False, True) and noted.pop("two") == (True, True)
    assert noted and set(noted.values()) == {(False, False)}, "without training"
    rows = json.loads(run_report(copy, "runs", "--json").stdout)["rows"]
    assert [r["run"] for r in rows if "began from third" in str(r["notes"])] == ["two"]


def test_what_is_gone_is_named_and_the_rest_is_there(copy: Path) -> None:
    run = copy / "runs" / "one"
    (copy / "data" / "tiny.h5").unlink()
    edit(run / "config.json", lambda c: c["inputs"].update(store="gone.h5", manifest="gone.csv"))
    (run / "metrics.jsonl").unlink()
    (run / "explain" / "c7n1_cosine.png").unlink()
    text = page_of(copy, "--embed")
    assert "No skeletons: data/tiny.h5: no such skeleton store" in text
    assert re.search(r"No map of the embeddings: .*tiny\.h5", text)
    assert "No training curves" in text and "No heatmaps" in text
    assert "Confusion matrix" in text and "taken for" in text


def test_other_skeletons_than_those_scored_are_not_shown(copy: Path) -> None:
    (result,) = (copy / "runs" / "one" / "results").glob("*.json")
    edit(result, lambda document: document["data"].update(skeletons_digest="another"))
    assert "not the skeletons that were scored" in page_of(copy)


def test_results_of_earlier_versions_and_unfinished_runs(copy: Path) -> None:
    def earlier(document: dict[str, Any]) -> None:
        for row in document["rows"]:
            for result in row["results"]:
                del result["answers"]

    (result,) = (copy / "runs" / "one" / "results").glob("*.json")
    edit(result, earlier)
    text = page_of(copy)
    assert "skelfew-eval --shots 1 --run runs/one keeps it" in text
    assert "mistaken:" not in text and "exemplar of" in text
    result.unlink()
    (copy / "runs" / "one" / "encoder.safetensors").unlink()
    text = page_of(copy)
    assert "skelfew-train --resume runs/one goes on" in text
    assert "No score: skelfew-eval --run runs/one makes one" in text and "Training" in text


def test_episodes_have_no_confusion_and_draws_have(copy: Path) -> None:
    (result,) = (copy / "runs" / "one" / "results").glob("*.json")
    result.unlink()
    often = ("--episodes=20", "--ways=2", "--queries=2")
    call(copy, evaluate, "--run=runs/one", "--mode=episodes", *often, "--threads=1")
    text = page_of(copy)
    assert "skelfew-eval --mode draws --shots 1 --run runs/one does" in text
    assert "2-way 1-shot, episodes" in text
    call(copy, evaluate, "--run=runs/one", "--mode=draws", "--draws=3", "--threads=1")
    text = page_of(copy)
    assert "Confusion matrix" in text and "recognised as" in text and "mistaken:" in text


def test_a_heatmap_too_large_to_embed_is_named(copy: Path) -> None:
    with (copy / "runs" / "one" / "explain" / "huge.svg").open("wb") as file:
        file.truncate(5 << 20)
    text = page_of(copy)
    assert re.search(r"A heatmap is left out: runs/one/explain/huge\.svg: its \d+ bytes", text)
    assert "c7n1_cosine" in text
    small = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"></svg>'
    (copy / "runs" / "one" / "explain" / "c7n1_cosine.svg").write_text(small)
    page_of(copy)
    html = (copy / "page.html").read_text()
    assert html.count("<img ") == 1 and "data:image/svg+xml;base64," in html, "one of two formats"


def test_several_runs_share_a_page(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(copy / "runs" / "one", copy / "runs" / "two")
    run_report(copy, "runs", "--html", "page.html", "--pairs", "1")
    html = (copy / "page.html").read_text()
    assert '<section id="run1"' in html and '<section id="run2"' in html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert html.count('<article id="run') == 2
    monkeypatch.setattr("skelfew.report.page._PAGE_CHARACTERS", 1)
    monkeypatch.chdir(copy)
    short = make_page([read_run(run) for run in find_runs([Path("runs")])])
    assert short.count('<article id="run') == short.count("The page is full") == 1
    assert "skelfew-report runs/two --html FILE shows this run" in short
    assert short.count('class="who"') == html.count('class="who"'), "the scores are all there"


def test_markup_escapes_all_but_markup() -> None:
    assert tag("a", "<b>", href='"x"') == '<a href="&quot;x&quot;">&lt;b&gt;</a>'
    assert join("<", None, [Safe("<br>"), 3]) == "&lt;<br>3"
    block = data_block("d", {"</script>": "<!-- & "})
    inside = json.loads(block[block.index("{") : block.index("</")])
    assert block.count("<") == 2 and inside == {"</script>": "<!-- & "}


def test_ticks_are_round_and_enclose() -> None:
    generator = np.random.default_rng(0)
    for low, high in np.sort(10 ** generator.uniform(-4, 4, (200, 2)), axis=1).tolist():
        marks = ticks(low, high)
        assert 3 <= len(marks) <= 6 and marks[0] <= low * 1.0001 and marks[-1] >= high * 0.9999
    assert ticks(0.5, 0.5)[0] < 0.5 < ticks(0.5, 0.5)[-1]
    assert "NaN" not in line_chart("x", {"a": [(1.0, 2.0)]}, "epoch")


def test_the_map_is_the_principal_plane() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([3, 5, 8], 20)
    directions = generator.normal(size=(9, 6))
    values = directions[labels] + 0.05 * generator.normal(size=(60, 6))
    values *= generator.uniform(1, 9, (60, 1))  # length says nothing
    found = place(values, labels, tuple(f"s{i}" for i in range(60)))
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :2] * singular[:2]
    assert np.allclose(np.abs(found.points), np.abs(expected), atol=1e-9)
    assert np.allclose(found.explained, (singular**2 / (singular**2).sum())[:2])
    means = np.stack([unit[labels == c].mean(axis=0) for c in (3, 5, 8)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    other, cosine = found.neighbours[3]
    assert cosine == pytest.approx((means @ means.T)[0, 1:].max()) and other in (5, 8)
    with pytest.raises(SkelfewError, match="2 samples make no map"):
        place(values[:2], labels[:2], ("a", "b"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_text_have_contrast(scheme: str) -> None:
    """4.5 to 1, as WCAG 2 asks of text."""
    from skelfew.report import page

    css = (Path(page.__file__).parent / "page.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in (
        css.split("@media")[0], css.split("@media")[1]))  # fmt: skip
    colours = light if scheme == "light" else dark
    for ink, paper in (("ink", "paper"), ("ink", "panel"), ("faint", "paper"), ("faint", "panel"),
                       ("accent", "paper"), ("wrong", "paper"), ("ink", "warn-paper")):  # fmt: skip
        one, other = sorted(luminance(colours[name]) for name in (ink, paper))
        assert (other + 0.05) / (one + 0.05) >= 4.5, (scheme, ink, paper)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
