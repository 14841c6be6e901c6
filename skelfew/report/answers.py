"""Pictures of what runs answer: exemplar, query and answers, a row for each novel action."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from skelfew.config import InputConfig
from skelfew.data.manifest import Manifest
from skelfew.data.store import SkeletonStore
from skelfew.draw import Scene, evenly, save_animation
from skelfew.evaluation.document import EvaluationPlan, evaluate
from skelfew.evaluation.subjects import run_subject
from skelfew.runs.folder import Run

POSES, HEIGHT, WIDTH, GAP, NAME = 5, 112, 74, 14, 236
INK, FAINT, RIGHT, WRONG, PAPER = "#1c2430", "#8a94a3", "#1a7f4b", "#c0392b", "#ffffff"


class AnswerRow(NamedTuple):
    """A novel action: its exemplar, a query of it, and what each run calls the query."""

    label: str
    exemplar: str
    query: str
    answers: tuple[str, ...]


def rows(runs: list[Path]) -> tuple[list[AnswerRow], list[float], Manifest, SkeletonStore]:
    """Return a row for each novel class, and the share of all queries that each run names.

    Both are those of skelfew-eval: the classifier is the run's own.
    """
    subjects = [run_subject(Run.open(path), InputConfig()) for path in runs]
    manifest, store = subjects[0].manifest, subjects[0].store
    scored = evaluate(subjects, EvaluationPlan({}, mode="exemplars"))
    results = [row["results"][0] for row in scored["rows"]]
    found = []
    for class_id, (exemplar, *_) in results[0]["exemplars"].items():
        # Somebody else before another camera, so that it is not the exemplar once more.
        by_answer = results[0]["answers"][class_id]
        others = sorted(query for queries in by_answer.values() for query in queries)
        other = [i for i in others if manifest[i].view != manifest[exemplar].view]
        query = (other or others)[len(other or others) // 2]
        answers = tuple(
            next(manifest.classes[int(c)] for c, queries in answers.items() if query in queries)
            for answers in (result["answers"][class_id] for result in results)
        )
        found.append(AnswerRow(manifest.classes[int(class_id)], exemplar, query, answers))
    return found, [row["micro"]["value"] for row in scored["rows"]], manifest, store


def stage(store: SkeletonStore, sample: str) -> Scene:
    """Return the stage that a sample is drawn on."""
    positions = store[sample].positions
    return Scene.around(positions, store.joint_layout, height=HEIGHT, width=WIDTH)


font = ImageFont.load_default


def sheet(
    found: list[AnswerRow], shares: list[float], names: list[str]
) -> tuple[Image.Image, list[int]]:
    """Return the empty sheet with all words on it, and the x of exemplars and queries."""
    strip = POSES * WIDTH
    first, second = NAME, NAME + strip + 3 * GAP
    columns = [second + strip + 3 * GAP + i * 232 for i in range(len(names))]
    page = Image.new("RGB", (columns[-1] + 224, 96 + len(found) * (HEIGHT + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((GAP, GAP), "Actions that no encoder was trained on", INK, font(22))
    for x, title in ((GAP, "action"), (first, "the one exemplar"), (second, "a query")):
        pen.text((x, 64), title, FAINT, font(14))
    for x, name, share in zip(columns, names, shares, strict=True):
        pen.text((x, 44), name, INK, font(14))
        pen.text((x, 64), f"{100 * share:.1f} % of all queries", FAINT, font(14))
    for i, row in enumerate(found):
        top = 96 + i * (HEIGHT + GAP)
        pen.line([(GAP, top - GAP // 2), (page.width - GAP, top - GAP // 2)], "#e6e9ee")
        pen.text((GAP, top + HEIGHT // 2 - 9), row.label, INK, font(15))
        for x, answer in zip(columns, row.answers, strict=True):
            colour = RIGHT if answer == row.label else WRONG
            pen.ellipse([x, top + HEIGHT // 2 - 5, x + 9, top + HEIGHT // 2 + 4], colour)
            pen.text((x + 16, top + HEIGHT // 2 - 9), answer, colour, font(15))
    return page, [first, second]


def draw(runs: list[Path]) -> list[Path]:
    """Draw what runs of one data set call one query of each novel action, from one exemplar each.

    The first run's folder gets ``pictures/answers.png``, and ``moving.gif`` with the same queries
    in motion; both are returned.
    """
    found, shares, _, store = rows(runs)
    page, (first, second) = sheet(found, shares, [path.name for path in runs])
    stages = [(stage(store, row.exemplar), stage(store, row.query)) for row in found]
    still = page.copy()
    for i, pair in enumerate(stages):
        for x, drawn in zip((first, second), pair, strict=True):
            for k, frame in enumerate(evenly(drawn.points.shape[1], POSES)):
                still.paste(drawn.draw(frame), (x + k * WIDTH, 96 + i * (HEIGHT + GAP)))
    folder = runs[0] / "pictures"
    folder.mkdir(exist_ok=True)
    still.save(folder / "answers.png", optimize=True)
    moments = 24
    sheets = []
    for k in range(moments):
        moving = page.copy()
        for i, pair in enumerate(stages):
            for x, drawn in zip((first, second), pair, strict=True):
                frames = evenly(drawn.points.shape[1], moments)  # fewer where a clip has fewer
                frame = frames[k * len(frames) // moments]
                moving.paste(drawn.draw(frame), (x + 2 * WIDTH, 96 + i * (HEIGHT + GAP)))
        sheets.append(moving.resize((moving.width * 2 // 3, moving.height * 2 // 3)))
    save_animation(sheets, folder / "moving.gif", 3.0 / moments)
    return [folder / "answers.png", folder / "moving.gif"]
