"""Tables of skelfew-prepare for people; the same numbers as ``--json``."""

from collections.abc import Mapping

from rich.table import Table

from skelfew.cli.common import console
from skelfew.io.files import Values

_SHOWN = 12  # rows of a list that could be long
_NAMED = 3  # names in a row


def print_summary(document: Values, classes: Mapping[int, str]) -> None:
    """Print the summary of a prepared or checked data set to stdout."""
    output = console(soft_wrap=True)
    frames = document["frames"]
    table = Table("", "", title=f"{document['dataset']}", show_header=False)
    table.add_row("samples", f"{document['samples']:,}")
    table.add_row("with video", f"{document['with_video']:,}")
    table.add_row("with two bodies", f"{document['two_bodies']:,}")
    table.add_row(
        "frames",
        f"{frames['sum']:,} ({frames['min']} to {frames['max']}, median {frames['median']:g})",
    )
    for key, title in (
        ("empty_frames", "frames without a body"),
        ("non_finite_frames", "frames with NaN"),
        ("dropped", "dropped"),
    ):
        if key in document:
            table.add_row(title, f"{document[key]:,}")
    reasons = list(document.get("dropped_reasons", {}).items())
    for reason, count in reasons[:_SHOWN]:
        table.add_row(f"  {reason}", f"{count:,}")
    if len(reasons) > _SHOWN:
        table.add_row("  other reasons", f"{sum(count for _, count in reasons[_SHOWN:]):,}")
    for key, title in (("per_subject", "per subject"), ("per_view", "per view")):
        if document[key]:
            table.add_row(title, "  ".join(f"{k}: {v:,}" for k, v in document[key].items()))
    if "equal_pairs" in document:
        pairs = [f"{first} = {second}" for first, second in document["equal_pairs"]]
        table.add_row("samples equal to another", _counted(pairs))
    if "without_video" in document:
        table.add_row("without video", _counted(document["without_video"]))
    table.add_row("manifest", str(document["manifest"]))
    table.add_row("skeletons", f"{document['store']} (digest {document['digest'][:12]})")
    output.print(table)
    per_class = Table("class", "name", "samples", title="per class")
    for number, count in document["per_class"].items():
        per_class.add_row(number, classes[int(number)], f"{count:,}")
    output.print(per_class)
    notes = document.get("notes", [])
    if notes:
        odd = Table("sample", "note", title=f"kept although odd: {len(notes)}")
        for note in notes[:_SHOWN]:
            odd.add_row(note["sample_id"], note["note"])
        if len(notes) > _SHOWN:
            odd.add_row("...", f"{len(notes) - _SHOWN} more in the table *.notes.csv")
        output.print(odd)


def _counted(names: str | list[str]) -> str:
    """Return how many there are, and the first few; ``all`` as it is."""
    if isinstance(names, str):
        return names
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names):,}" + (f": {', '.join(names[:_NAMED])}{more}" if names else "")
