"""One HTML page about runs: styles, script, pictures and numbers inside, nothing fetched."""

import base64
import hashlib
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from skelfew.evaluation.answers import UNTRAINED
from skelfew.io.files import Document
from skelfew.report.charts import scale
from skelfew.report.collect import RunFacts, Score
from skelfew.report.markup import Safe, data_block, join, percent, scrolled, table, tag
from skelfew.report.sections import PageStyle, RunPart, part_of
from skelfew.report.table import cells_of, head, quotes_of, rows_of

_FOLDER = Path(__file__).parent
_PAGE_CHARACTERS = 4_000_000  # of what is shown in full; of the runs after that the scores alone


def make_page(runs: Sequence[RunFacts], look: PageStyle = PageStyle()) -> str:  # noqa: B008
    """Return the page on one run or more as one HTML document."""
    parts, room = [], _PAGE_CHARACTERS
    for i, facts in enumerate(runs, start=1):
        place = (f"run{i}-", 3) if len(runs) > 1 else ("", 2)
        if room > 0:
            part = part_of(facts, *place, look)
            room -= sum(len(section.body) for section in part.sections)
            room -= len(data_block("clips", part.clips))
        else:
            where = shlex.quote(str(facts.run.path))
            line = f"The page is full: skelfew-report {where} --html FILE shows this run."
            part = RunPart(facts, *place, missing=[line])
        parts.append(part)
    title = runs[0].run.name if len(runs) == 1 else f"{len(runs)} runs"
    script = _read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    clips: Document = {}
    for i, part in enumerate(parts):
        clips |= {f"{i} {sample_id}": clip for sample_id, clip in part.clips.items()}
    fields = {
        "script_hash": digest,
        "title": join(title),
        "style": _read("page.css"),
        "header": _header(title, runs, parts),
        "main": join(
            _scores(runs), [_part(i, part, len(parts) > 1) for i, part in enumerate(parts)]
        ),
        "footer": join(f"skelfew-report {version('skelfew')}, {time.strftime('%Y-%m-%d %H:%M')}"),
        "data": data_block("clips", clips),
        "script": script,
    }
    # In one pass, so that what was filled in is not looked at again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: fields[found[1]], _read("page.html"))


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _header(title: str, runs: Sequence[RunFacts], parts: Sequence[RunPart]) -> Safe:
    links = [("scores", "Scores")]
    if len(parts) == 1:
        links += [(section.anchor, section.title) for section in parts[0].sections]
    else:
        links += [(f"run{i}", part.facts.run.name) for i, part in enumerate(parts, start=1)]
    items = [tag("li", tag("a", text, href=f"#{anchor}")) for anchor, text in links]
    return join(
        tag("h1", title),
        [tag("p", line, class_="lead") for line in _lead(runs)],
        tag("nav", tag("ul", items), aria_label="Sections"),
    )


def _lead(runs: Sequence[RunFacts]) -> Iterator[str]:
    """Return the result of a single run in a sentence."""
    score = runs[0].shown if len(runs) == 1 else None
    if score is None:
        return
    same = [s for s in runs[0].scores if s.features in UNTRAINED and s.test == score.test]
    floor = "".join(f", {s.features} {percent(s.micro.value)} %" for s in same[:1])
    yield (
        f"{score.micro} of the queries are recognised ({score.test}); guessing gives "
        f"{percent(score.chance)} %{floor}."
    )


def _scores(runs: Sequence[RunFacts]) -> Safe:
    rows, seen = [], set()
    for facts in runs:
        for score in facts.scores:
            if score.key not in seen:
                seen.add(score.key)
                rows.append((facts, score))
    rows.sort(key=lambda row: (row[1].test, row[1].features in UNTRAINED))
    unscored = [f.run.name for f in runs if not f.scores]
    quoted = any(quote.same for row in rows for quote in quotes_of(*row))
    legend = tag(
        "p",
        tag("span", tag("i", class_="key value"), "accuracy, 95 % interval"),
        tag("span", tag("i", class_="key chance"), "chance"),
        tag("span", tag("i", class_="key quoted"), "quoted, trained alike") if quoted else None,
        class_="legend",
    )
    plain = table(head(), map(cells_of, rows_of(runs)))
    return tag(
        "section",
        tag("h2", "Scores", id="scores-title"),
        legend if rows else None,
        tag("ul", [_score(facts, score) for facts, score in rows], class_="scores"),
        tag("p", f"Not scored: {', '.join(unscored)}.") if unscored else None,
        tag("details", tag("summary", "As a table"), scrolled("Scores", plain)),
        _quoted(rows),
        id="scores",
        aria_labelledby="scores-title",
    )


def _score(facts: RunFacts, score: Score) -> Safe:
    same = [quote.percent / 100 for quote in quotes_of(facts, score) if quote.same]
    count = score.micro.count
    over = f"{count:,} {score.micro.of}" if count > 1 else f"one of {score.micro.of}"
    low, high = score.micro.low, score.micro.high
    interval = "" if low is None or high is None else f"{percent(low)} to {percent(high)}"
    notes = score.document["notes"]
    quoted = f"; quoted {', '.join(dict.fromkeys(percent(q) for q in same))} %" if same else ""
    return tag(
        "li",
        tag(
            "p",
            tag("b", score.features, class_="who"),
            tag("span", f"{score.test}, {score.classifier}", class_="faint"),
            class_="what",
        ),
        tag(
            "p", tag("b", f"{percent(score.micro.value)} %"), tag("span", interval), class_="number"
        ),
        scale(score.micro, score.chance, same),
        tag("p", f"interval over {over}; mean over classes {score.macro}{quoted}", class_="faint"),
        [tag("p", note, class_="note") for note in notes],
    )


def _quoted(rows: Sequence[tuple[RunFacts, Score]]) -> Safe | None:
    """Return the paper's numbers for the same data set and shots, a table for each."""
    places: dict[tuple[str, int], dict[tuple[float, str, str], bool]] = {}
    for facts, score in rows:
        for quote in quotes_of(facts, score):
            known = places.setdefault((score.dataset, score.shots), {})
            place = quote.percent, quote.label, quote.where
            known[place] = known.get(place, False) or quote.same
    blocks = []
    for (dataset, shots), known in places.items():
        lines = [
            [label, where, tag("td", f"{value:.1f} %", class_="number"), "yes" if same else ""]
            for (value, label, where), same in sorted(known.items(), key=lambda e: -e[0][0])
        ]
        labels = ("row", "where", "accuracy", "trained alike")
        scroll = scrolled(f"Quoted numbers for {dataset}", table(labels, lines))
        about = (
            "As printed by Lu et al. Comparable only with the complete data set, the same protocol "
            "and as much training; trained alike means the same stages, and the same in what the "
            "rows of that table differ in."
        )
        summary = tag("summary", f"What the paper reports: {dataset}, {shots}-shot")
        blocks.append(tag("details", summary, tag("p", about), scroll))
    return join(blocks) if blocks else None


def _part(index: int, part: RunPart, several: bool) -> Safe:
    level = f"h{part.level}"
    sections = [
        tag(
            "section",
            tag(level, section.title, id=f"{section.anchor}-title"),
            section.body,
            id=section.anchor,
            aria_labelledby=f"{section.anchor}-title",
        )
        for section in part.sections
    ]
    missing = None
    if part.missing:
        items = [tag("li", line) for line in part.missing]
        missing = tag("aside", tag(level, "Not on this page"), tag("ul", items), class_="missing")
    if not several:
        return tag("div", sections, missing, data_part=index)
    links = [tag("li", tag("a", s.title, href=f"#{s.anchor}")) for s in part.sections]
    name = f"run{index + 1}"
    return tag(
        "section",
        tag("h2", part.facts.run.name, id=f"{name}-title"),
        tag("nav", tag("ul", links), aria_label=f"Sections of {part.facts.run.name}"),
        sections,
        missing,
        id=name,
        class_="run",
        aria_labelledby=f"{name}-title",
        data_part=index,
    )
