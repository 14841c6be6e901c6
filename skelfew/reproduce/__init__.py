"""Tables of runs: rows as data, run over seeds or splits, resumable, several at a time.

tables.py reads a table, units.py turns it into trainings of one total budget, work.py does one,
engine.py hands them to worker processes, records.py keeps what came out, summary.py makes rows
with intervals and contrasts of it, plan.py says what would run, text.py and document.py print.

From the shell: skelfew-reproduce.
"""
