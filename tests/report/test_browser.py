"""The page in a real Chromium: opened, clicked through, used by keyboard alone, photographed."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_world import HOSTILE, run_report

DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def html(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with everything on it."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    run_report(world, "runs/one", "--html", str(out), "--embed")
    return out


class Visit:
    """A page that is open, and all that it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int], motion: str):
        size_ = {"width": size[0], "height": size[1]}
        self.context = browser.new_context(viewport=size_, reduced_motion=motion)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def focused(self) -> Any:
        """What has the focus, as a few words."""
        return self.page.evaluate(
            "() => { const e = document.activeElement; const box = e.getBoundingClientRect();"
            "return {tag: e.tagName, id: e.id, text: e.textContent.trim().slice(0, 60),"
            "seen: box.width > 0 && box.height > 0 && box.right > 0,"
            "index: [...document.querySelectorAll('*')].indexOf(e)}; }"
        )


@pytest.fixture
def visit(browser: Any, html: Path) -> Iterator[Any]:
    """Opens the page; whatever it complained of fails the test."""
    open_now: list[Visit] = []

    def opened(size: tuple[int, int] = DESKTOP, motion: str = "no-preference") -> Visit:
        open_now.append(Visit(browser, html, size, motion))
        return open_now[-1]

    yield opened
    for one in open_now:
        assert one.complaints == []
        assert [url for url in one.asked if not url.startswith("data:")] == [html.as_uri()]
        one.context.close()


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_it_opens_without_network_and_fits_the_screen(
    visit: Any, size: tuple[int, int], tmp_path: Path
) -> None:
    page = visit(size).page
    assert page.title() == "one · skelfew report"
    assert page.inner_text("h1") == "one"
    titles = page.locator("main h2").all_inner_texts()
    assert titles == ["Scores", "Confusion matrix", "Classes", "Most confused",
                      "Map of the embeddings", "Training", "Heatmaps", "Provenance"]  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0], "no sideways scrolling"
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    shot = tmp_path / "page.png"
    page.screenshot(path=shot, full_page=True)
    with Image.open(shot) as picture:
        assert picture.width == size[0] and picture.height > 1500
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 100, "something is on it"


def test_names_of_classes_stay_text(visit: Any) -> None:
    page = visit().page
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src='x']").count() == 0
    names = page.locator("table.bars th[scope=row] .class > span").all_inner_texts()
    assert sorted(names) == [f"{HOSTILE} 7", f"{HOSTILE} 8"]
    clips = json.loads(page.locator("#clips").text_content())
    assert clips and all(key.startswith("0 c") for key in clips)


def test_skeletons_play_pause_and_step(visit: Any) -> None:
    page = visit().page
    pair = page.locator("article.pair").first
    pair.scroll_into_view_if_needed()
    button, slider = pair.locator("button.play"), pair.locator("input.moment")
    assert button.inner_text() == "Pause"

    def place() -> list[str]:
        lines = pair.locator("line.bone").all()
        return [str(line.get_attribute("x1")) for line in lines[:14]]

    before = place()
    page.wait_for_timeout(400)
    assert place() != before, "it moves by itself"
    button.click()
    assert button.inner_text() == "Play"
    stopped = place()
    page.wait_for_timeout(300)
    assert place() == stopped
    button.click()
    every = page.locator("button.pause-all")
    assert every.inner_text() == "Pause all"
    every.click()
    assert page.locator("button.play").all_inner_texts() == ["Play"] * page.locator(".pair").count()
    at = int(slider.input_value())
    slider.focus()
    page.keyboard.press("ArrowLeft" if at else "ArrowRight")
    assert int(slider.input_value()) == (at - 1 if at else at + 1)
    following = pair.locator("button.next")
    sample = pair.locator("figure.query .sample")
    first = sample.inner_text()
    following.click()
    assert sample.inner_text() != first
    assert pair.locator("figure.query title").text_content().endswith(sample.inner_text())


def test_who_wants_no_motion_gets_none(visit: Any) -> None:
    page = visit(motion="reduce").page
    pair = page.locator("article.pair").first
    pair.scroll_into_view_if_needed()
    assert set(page.locator("button.play").all_inner_texts()) == {"Play"}
    before = pair.inner_html()
    page.wait_for_timeout(300)
    assert pair.inner_html() == before


def test_the_keyboard_reaches_everything_in_order(visit: Any) -> None:
    one = visit(motion="reduce")
    page = one.page
    page.keyboard.press("Tab")
    assert one.focused()["text"] == "Skip to the content" and one.focused()["seen"]
    page.keyboard.press("Enter")
    assert one.focused()["id"] == "main"
    one = visit(motion="reduce")
    page = one.page
    wanted = page.locator(
        "a[href], button:visible, input:visible, summary, [tabindex='0']:visible"
    ).count()
    places, seen = [], []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        focus = one.focused()
        places.append(focus["index"])
        seen.append(focus["seen"])
    assert all(seen), "what has the focus can be seen"
    assert places == sorted(set(places)), "the order of the page"
    play = page.locator("button.play").first
    play.focus()
    page.keyboard.press("Space")
    assert play.inner_text() == "Pause"
    page.keyboard.press("Enter")
    assert play.inner_text() == "Play"
    details = page.locator("details").first
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    assert details.get_attribute("open") is not None


def test_a_cell_leads_to_its_mistakes_and_a_button_brings_out_a_class(visit: Any) -> None:
    page = visit().page
    link = page.locator("table.matrix td a").first
    target = link.get_attribute("href").removeprefix("#")
    link.click()
    assert page.evaluate("location.hash") == f"#{target}"
    page.wait_for_function(
        "id => { const box = document.getElementById(id).getBoundingClientRect();"
        "return box.top >= -1 && box.top < innerHeight; }",
        arg=target,
    )
    buttons = page.locator(".map .legend button")
    assert buttons.count() == 2
    buttons.first.click()
    assert buttons.first.get_attribute("aria-pressed") == "true"
    away, all_marks = page.locator(".map .mark.away"), page.locator(".map figure .mark")
    assert away.count() == 10 and all_marks.count() == 20
    buttons.first.click()
    assert away.count() == 0


def test_everything_has_a_name(visit: Any) -> None:
    """Headings in order, no anchor twice, words for every picture and control."""
    page = visit().page
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    anchors = page.evaluate("[...document.querySelectorAll('a')].map(a => a.hash.slice(1))")
    assert set(anchors) <= set(ids)
    nameless = page.evaluate(
        """() => {
          const named = (e) => e.getAttribute("aria-label") || e.getAttribute("alt") ||
            e.textContent.trim() || e.querySelector("title");
          const all = document.querySelectorAll(
            "[role=img], img, button, input, a, [role=region], nav, [role=group]");
          return [...all].filter((e) => !named(e)).map((e) => e.outerHTML.slice(0, 80));
        }"""
    )
    assert nameless == []
    assert page.locator("th:not([scope])").count() == 0


def test_without_scripts_it_can_be_read(browser: Any, html: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(html.as_uri())
    assert page.locator("article.pair svg.skeleton").first.is_visible()
    assert page.locator("button:visible").count() == page.locator(".map .legend button").count()
    context.close()
