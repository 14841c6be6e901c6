"""Table files as documents: ``like`` takes over another table, ``class_counts`` repeats rows."""

from collections.abc import Mapping

from skelfew.io.files import Document, Values

_BY_KEY = ("budget", "caches", "inits")


def inherited(own: Values, other: Values) -> Document:
    """Return the table ``own`` with all that it leaves out taken from ``other``.

    Budgets, caches and initial weights are taken one by one, and so are rows by their keys; any
    other entry of ``own`` replaces that of ``other``.
    """
    merged = {**other, **{key: value for key, value in own.items() if key != "like"}}
    for key in _BY_KEY:
        merged[key] = {**other.get(key, {}), **own.get(key, {})}
    rows = {row["key"]: row for row in (*other.get("rows", ()), *own.get("rows", ()))}
    merged["rows"] = list(rows.values())
    return merged


def repeated(document: Values) -> Document:
    """Return a table in which each row is repeated for each number of base classes.

    ``class_counts`` has the numbers of each data set. The row ``KEY`` becomes ``KEY-NUMBER`` for
    the data sets that have the number, and so does a contrast of two such rows.
    """
    counts: Mapping[str, list[int]] = document.get("class_counts", {})
    if not counts:
        return dict(document)
    numbers = list(dict.fromkeys(n for values in counts.values() for n in values))
    rows: list[Document] = []
    found: dict[str, set[int]] = {}
    for number in numbers:
        for row in document["rows"]:
            datasets = [d for d in row.get("datasets", counts) if number in counts.get(d, ())]
            if not datasets:
                continue
            found.setdefault(row["key"], set()).add(number)
            paper = {"paper": [row["paper"], f"classes={number}"]} if "paper" in row else {}
            rows.append(
                {**row, **paper, "key": f"{row['key']}-{number}",
                 "label": f"{number} classes, {row['label']}", "base_classes": number,
                 "datasets": datasets}
            )  # fmt: skip
    contrasts: list[Document] = []
    for number in numbers:
        contrasts += [
            {**c, "a": f"{c['a']}-{number}", "b": f"{c['b']}-{number}"}
            for c in document.get("contrasts", ())
            if number in found.get(c["a"], ()) and number in found.get(c["b"], ())
        ]
    contrasts += [c for c in document.get("contrasts", ()) if c["a"] not in found]
    rest = {key: value for key, value in document.items() if key != "class_counts"}
    return {**rest, "rows": rows, "contrasts": contrasts}
