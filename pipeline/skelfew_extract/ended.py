"""The last lines of an extraction, and its exit status."""

from skelfew.cli.common import OK, PARTIAL, log, say, say_json
from skelfew_extract.summary import ExtractionSummary


def ended(summary: ExtractionSummary, as_json: bool, repair: bool, unit: str = "clips") -> int:
    """Print what was done; return the exit status."""
    _report(summary, as_json, unit)
    if summary.centred:
        log(f"{summary.centred} clips were cut from the picture's centre, without joints")
    if summary.failures:
        log(f"{summary.failed} samples failed, see {summary.failures}; --retry-failed tries again")
    return max(_repaired(summary, repair), PARTIAL if summary.failures else OK)


def _repaired(summary: ExtractionSummary, asked: bool) -> int:
    """Say what became of damaged rows; return the exit status."""
    if asked and not summary.damaged and summary.restored is None:
        log("no damaged rows")
    if summary.damaged:
        log(f"{summary.damaged} damaged rows found")
    if summary.restored:
        log("the content is what it was before the damage")
    if summary.restored is False and not summary.pending:
        log(
            "the content is NOT what it was before the damage: another kind of processor, other "
            "options, or damage that has not been found; compare it with another copy"
        )
        return PARTIAL
    return OK


def _report(summary: ExtractionSummary, as_json: bool, unit: str) -> None:
    """Print what was done."""
    if as_json:
        say_json(summary.as_dict())
        return
    say(
        f"{summary.cache}: {summary.done} of {summary.samples} samples done, "
        f"{summary.extracted} by this run ({summary.clips_per_second:.2f} {unit}/s), "
        f"{summary.failed} failed, {summary.pending} pending\ndigest {summary.digest}"
    )
