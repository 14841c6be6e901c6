"""Confusions of classes: matrix, bars, and the pairs that are confused most."""

from collections.abc import Sequence
from dataclasses import dataclass

from skelfew.report.collect import Score
from skelfew.report.markup import Safe, percent, scrolled, table, tag

_QUERIES = 4  # of a pair that are shown, at most


@dataclass(frozen=True)
class Pair:
    """Queries of one class that were taken for another."""

    true: int
    taken: int  # the class that they were taken for
    count: int  # how often; over draws and splits, in all
    share: float  # of all queries of the true class
    queries: tuple[str, ...]  # sample IDs of some of them
    # For both classes a sample that it was known by: (true, taken), "" where unknown
    examples: tuple[str, str]


def most_confused(score: Score, count: int) -> list[Pair]:
    """Return the ``count`` pairs of classes with the most mistakes, none without a confusion."""
    if score.confusion is None:
        return []
    totals: dict[int, int] = {}
    for (true, _), number in score.confusion.items():
        totals[true] = totals.get(true, 0) + number
    wrong = [(place, n) for place, n in score.confusion.items() if n and place[0] != place[1]]
    answers = score.answers or {}
    return [
        Pair(
            *place,
            number,
            number / totals[place[0]],
            answers.get(place, ())[:_QUERIES],
            (_example(score, place[0]), _example(score, place[1])),
        )
        for place, number in sorted(wrong, key=lambda entry: (-entry[1], entry[0]))[:count]
    ]


def _example(score: Score, number: int) -> str:
    """The exemplar of a class; where it varies, a query that was recognised."""
    known = score.exemplars.get(number) or (score.answers or {}).get((number, number), ())
    return known[0] if known else ""


def name_of(score: Score, number: int) -> str:
    """Return the name of a class, its number where it has none."""
    return score.names.get(number) or f"class {number}"


def matrix(score: Score, pairs: Sequence[Pair], prefix: str) -> Safe | None:
    """Return the confusion matrix as a table; cells of ``pairs`` lead to their pictures."""
    if score.confusion is None:
        return None
    numbers = list(score.names)
    links = {(pair.true, pair.taken): f"#{prefix}pair-{pair.true}-{pair.taken}" for pair in pairs}
    columns = [
        tag("th", number, scope="col", title=name_of(score, number), data_column=i)
        for i, number in enumerate(numbers)
    ]
    rows = []
    for true in numbers:
        counts = [score.confusion.get((true, taken), 0) for taken in numbers]
        total = sum(counts)
        cells = []
        for taken, count in zip(numbers, counts, strict=True):
            kind = "right" if true == taken else "wrong"
            says = f"{name_of(score, true)} taken for {name_of(score, taken)}: {count} of {total}"
            link = links.get((true, taken))
            what = tag("a", count, href=link, aria_label=f"{says}, see") if link else count
            cells.append(
                tag(
                    "td",
                    what if count else "",
                    class_=kind if count else None,
                    style=f"--share:{count / total:.3f}" if count else None,
                    title=says if count else None,
                )
            )
        rows.append([_row_head(score, true), *cells])
    whole = table([tag("td"), *columns], rows, class_="matrix")
    return scrolled("Confusion matrix, scrolls sideways", whole)


def _row_head(score: Score, number: int) -> Safe:
    name = tag("span", tag("b", number), " ", tag("span", name_of(score, number)), class_="class")
    return tag("th", name, scope="row")


def class_bars(score: Score) -> Safe:
    """Return the accuracy of each class as a table with bars, the best first."""
    rows = []
    counts = score.confusion or {}
    for number in sorted(score.names, key=lambda n: (-score.accuracies.get(n, -1.0), n)):
        value = score.accuracies.get(number)
        total = sum(n for (true, _), n in counts.items() if true == number)
        of = f"{counts.get((number, number), 0):,} of {total:,}" if total else ""
        bar = tag("span", class_="fill", style=f"--share:{value or 0:.4f}")
        rows.append(
            [
                _row_head(score, number),
                tag("td", tag("span", bar, class_="bar", aria_hidden="true"), class_="wide"),
                tag("td", "no query" if value is None else f"{percent(value)} %", class_="number"),
                tag("td", of, class_="number faint"),
            ]
        )
    labels = {"class": None, "": "wide", "accuracy": "number", "right": "number"}
    head = [tag("th", text, scope="col", class_=kind) for text, kind in labels.items()]
    return table(head, rows, class_="bars")
