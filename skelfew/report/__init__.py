"""Reports of runs: a table in several formats, and an HTML page in one file.

    facts = [read_run(Run.open("runs/one"))]
    table = as_text(rows_of(facts), "markdown")
    Path("report.html").write_text(make_page(facts))

``collect`` reads run folders, ``quoted`` finds the paper's numbers for the same test, ``table``
prints, ``page`` puts ``sections`` together, which have ``confusion``, ``animation``, ``charts`` and
``embedding``. Nothing here trains or scores: what a page shows was written by skelfew-train,
skelfew-eval and skelfew-explain.
"""
