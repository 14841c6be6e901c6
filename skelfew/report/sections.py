"""The sections of a page about one run: what can be shown of it, and what is missing and why."""

import base64
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from skelfew.errors import SkelfewError
from skelfew.io.files import Document, brief, check_file, check_picture
from skelfew.report.charts import curves, metrics_table
from skelfew.report.collect import RunFacts, Score
from skelfew.report.confusion import Pair, class_bars, matrix, most_confused, name_of
from skelfew.report.markup import Safe, join, percent, scrolled, tag
from skelfew.report.provenance import provenance

_PICTURE_BYTES, _PICTURES_BYTES = 4 << 20, 24 << 20  # of one that is embedded, and of all of a run
_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class PageStyle:
    """Settings of a page."""

    pairs: int = 6  # pairs of classes whose mistakes are shown, at most
    embed: bool = False  # whether to compute the map of the embeddings
    manifest: Path | None = None  # of the data set that was scored, if it moved since
    store: Path | None = None  # its skeletons, likewise


@dataclass
class Section:
    """A part of a page: its anchor, its heading and its content."""

    anchor: str
    title: str
    body: Safe


@dataclass
class RunPart:
    """All about one run."""

    facts: RunFacts
    prefix: str  # of its anchors, so that several runs fit on one page
    level: int  # of the headings of its sections
    sections: list[Section] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what is not, with the way to have it
    # Skeletons for the script, by sample ID
    clips: dict[str, Document] = field(default_factory=dict)

    def add(self, name: str, title: str, *body: object) -> None:
        """Add a section."""
        self.sections.append(Section(f"{self.prefix}{name}", title, join(*body)))


def part_of(facts: RunFacts, prefix: str, level: int, look: PageStyle) -> RunPart:
    """Return what a page says about a run."""
    part, score = RunPart(facts, prefix, level), facts.shown
    where = shlex.quote(str(facts.run.path))
    if not facts.run.finished:
        part.missing.append(f"The run is not finished: skelfew-train --resume {where} goes on.")
    if score is None:
        part.missing.append(f"No score: skelfew-eval --run {where} makes one.")
    else:
        _mistakes(part, score, look, where)
        if look.embed:
            _map(part, score, look)
        else:
            part.missing.append("No map of the embeddings: skelfew-report --embed computes it.")
    _training(part)
    _heatmaps(part, where)
    part.add("provenance", "Provenance", provenance(facts, score))
    return part


def _mistakes(part: RunPart, score: Score, look: PageStyle, where: str) -> None:
    pairs = most_confused(score, look.pairs)
    about = tag("p", f"{score.test}, {score.classifier} classifier.", class_="faint")
    table = matrix(score, pairs, part.prefix)
    if table is None:
        part.missing.append(
            "No confusion matrix: episodes keep none; "
            f"skelfew-eval --mode draws --shots {score.shots} --run {where} does."
        )
    else:
        rows = tag("p", "Rows: what it was. Columns: what it was taken for, by class number.")
        part.add("confusion", "Confusion matrix", about, rows, table)
    part.add("classes", "Classes", about, class_bars(score))
    if not pairs:
        return
    if score.answers is None:
        part.missing.append(
            "Which recordings were mistaken is not in the result, which an earlier version wrote; "
            f"skelfew-eval --shots {score.shots} --run {where} keeps it."
        )
    try:
        from skelfew.report.animation import clips, open_store

        with open_store(part.facts, score, look.store) as store:
            part.clips = clips(
                store, (i for pair in pairs for i in (*pair.queries, *pair.examples))
            )
    except ModuleNotFoundError as error:
        part.missing.append(
            f"No skeletons: drawing needs {error.name}; pip install 'skelfew[show]' adds it."
        )
    except SkelfewError as error:
        part.missing.append(f"No skeletons: {error}")
    shown = [_pair(part, score, pair) for pair in pairs]
    legend = tag(
        "p",
        tag("span", tag("i", class_="key side1"), "left"),
        tag("span", tag("i", class_="key side2"), "right, the performer's own"),
        tag("button", "Pause all", type="button", class_="pause-all", hidden=True),
        class_="legend",
    )
    part.add(
        "mistakes",
        "Most confused",
        legend if part.clips else None,
        tag("div", shown, class_="pairs"),
    )


def _pair(part: RunPart, score: Score, pair: Pair) -> Safe:
    true, taken = name_of(score, pair.true), name_of(score, pair.taken)
    anchor = f"{part.prefix}pair-{pair.true}-{pair.taken}"
    queries = [i for i in pair.queries if i in part.clips]
    known = "exemplar of" if score.exemplars else "recognised as"
    panels = []
    if queries:
        panels.append(_panel(part, f"mistaken: {true}", queries[0], "query"))
    for name, sample_id in zip((true, taken), pair.examples, strict=True):
        if sample_id in part.clips:
            panels.append(_panel(part, f"{known} {name}", sample_id, "example"))
    controls = None
    if panels:
        others = tag("button", "Next mistake", type="button", class_="next")
        controls = tag(
            "p",
            tag("button", "Play", type="button", class_="play"),
            tag("input", type="range", min=0, max=0, value=0, aria_label="Moment", class_="moment"),
            others if len(queries) > 1 else None,
            class_="controls",
            hidden=True,
        )
    return tag(
        "article",
        tag(f"h{part.level + 1}", tag("b", true), " taken for ", tag("b", taken)),
        tag("p", f"{pair.count:,} times, {percent(pair.share)} % of its queries", class_="faint"),
        tag("div", panels, class_="panels") if panels else None,
        controls,
        id=anchor,
        class_="pair",
        tabindex="-1",
        data_queries=" ".join(map(_token, queries)),
    )


def _token(sample_id: str) -> str:
    """A sample ID as a word of an attribute, whatever characters are in it."""
    return base64.urlsafe_b64encode(sample_id.encode()).decode()


def _panel(part: RunPart, label: str, sample_id: str, kind: str) -> Safe:
    from skelfew.report.animation import still

    clip = part.clips[sample_id]
    caption = tag("figcaption", label, tag("small", sample_id, class_="sample"))
    picture = still(clip, f"{label}, {sample_id}")
    return tag("figure", picture, caption, class_=kind, data_clip=_token(sample_id))


def _map(part: RunPart, score: Score, look: PageStyle) -> None:
    from skelfew.report import embedding

    try:
        found = embedding.embed(part.facts, score, look.manifest, look.store)
    except SkelfewError as error:
        part.missing.append(f"No map of the embeddings: {error}")
        return
    nearest = scrolled("Nearest classes", embedding.neighbours_table(found, score))
    part.add(
        "map",
        "Map of the embeddings",
        embedding.draw(found, score),
        tag("details", tag("summary", "Nearest classes as a table"), nearest),
    )


def _training(part: RunPart) -> None:
    rows = part.facts.metrics
    if not rows:
        part.missing.append("No training curves: metrics.jsonl is absent or empty.")
        return
    body = []
    for stage in dict.fromkeys(str(row.get("stage", "training")) for row in rows):
        own = [row for row in rows if str(row.get("stage", "training")) == stage]
        numbers = scrolled(f"Numbers of {stage}", metrics_table(own))
        body += [
            tag(f"h{part.level + 1}", f"Stage {stage}"),
            tag("div", curves(own), class_="charts"),
            tag("details", tag("summary", f"All numbers of {stage}"), numbers),
        ]
    part.add("training", "Training", body)


def _heatmaps(part: RunPart, where: str) -> None:
    if not part.facts.pictures:
        part.missing.append(f"No heatmaps: skelfew-explain leaves them in {where}/explain.")
        return
    named: dict[Path, list[Path]] = {}
    for path in sorted(part.facts.pictures, key=lambda p: p.suffix.lower() != ".svg"):
        named.setdefault(path.with_suffix(""), []).append(path)
    figures, room = [], _PICTURES_BYTES
    for stem, paths in sorted(named.items()):
        fault = ""
        for path in paths:  # the sharper one, unless it is too large
            try:
                size = check_file(path, min(_PICTURE_BYTES, room))
                picture = path.read_bytes()
                check_picture(picture, path.suffix.lower())
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else brief(error)
                fault = f"A heatmap is left out: {path}: {why}"
                continue
            content = base64.b64encode(picture).decode()
            room -= size
            label = stem.relative_to(part.facts.run.path / "explain").as_posix()
            source = f"data:{_TYPES[path.suffix.lower()]};base64,{content}"
            image = tag("img", src=source, alt=f"Heatmap {label}")
            figures.append(tag("figure", image, tag("figcaption", label)))
            break
        else:
            part.missing.append(fault)
    if figures:
        part.add("heatmaps", "Heatmaps", tag("div", figures, class_="pictures"))
