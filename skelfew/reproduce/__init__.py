"""Tables of runs: rows as data, run over seeds or splits, resumable, several at a time.

tables.py reads a table, expand.py turns it into units of one total budget (units.py, budget.py),
plan.py says what would run, engine.py hands units to processes, work.py does one, records.py keeps
what came out, summary.py makes rows with intervals and contrasts of it, text.py and document.py
print.

From the shell: skelfew-reproduce.
"""
