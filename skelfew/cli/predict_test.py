"""The table of ``skelfew-predict --test``: how many of other recordings are recognised."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from skelfew.cli.common import log, say, say_json
from skelfew.cli.predict import describe
from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew.predict.recogniser import Recogniser
from skelfew.predict.rejection import NONE_OF_THESE
from skelfew.predict.support import read_folder


def report(recogniser: Recogniser, folder: Path, as_json: bool) -> None:
    """Predict a folder of actions and print how often its folders' names were found."""
    document = measure(recogniser, folder)
    if as_json:
        say_json(document)
        return
    for row in document["actions"]:
        expected = row["action"] if row["known"] else NONE_OF_THESE
        answers = {answer or NONE_OF_THESE: n for answer, n in row["answers"].items()}
        others = ", ".join(f"{n} {answer}" for answer, n in answers.items() if answer != expected)
        name = row["action"] + ("" if row["known"] else " (not taught)")
        say(
            f"{name:24}  {row['right']:4} of {row['recordings']:4}"
            + (f"   otherwise {others}" if others else "")
        )
    known, unknown = document["known"], document["unknown"]
    if known["recordings"]:
        text = f"recognised: {_share(known['right'], known['recordings'])}"
        if recogniser.rejection is not None:
            text += f"; wrongly rejected: {_share(known['rejected'], known['recordings'])}"
        say(text)
    if unknown["recordings"]:
        say(f"not taught and accepted: {_share(unknown['accepted'], unknown['recordings'])}")


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})"


def measure(recogniser: Recogniser, folder: Path) -> Document:
    """Return counts for every action of a folder; one that was not taught is none of these.

    Raises:
        SkelfewError: See ``read_folder``; or a recording of the support set is among them.
    """
    groups = read_folder(folder, *recogniser.reading, log)
    taught = {Path(name).resolve() for name in recogniser.names}
    rows: list[Document] = []
    for action, clips in groups.items():
        if again := [clip.name for clip in clips if Path(clip.name).resolve() in taught]:
            raise SkelfewError(f"{again[0]}: a recording of the support set; test with others")
        answers = Counter(p.label or "" for p in recogniser.predict_clips(clips))
        known = action in recogniser.classes
        row = {"action": action, "known": known, "recordings": len(clips)}
        right = answers[action if known else ""]
        rows.append({**row, "right": right, "answers": dict(answers)})
    known_rows = [row for row in rows if row["known"]]
    rejected = sum(row["answers"].get("", 0) for row in known_rows)
    others = _sums(row for row in rows if not row["known"])
    return {
        **describe(recogniser),
        "actions": rows,
        "known": {**_sums(known_rows), "rejected": rejected},
        "unknown": {
            "recordings": others["recordings"],
            "accepted": others["recordings"] - others["right"],
        },
    }


def _sums(rows: Iterable[Document]) -> dict[str, int]:
    kept = [*rows]
    return {key: sum(row[key] for row in kept) for key in ("recordings", "right")}
