"""Runs benchmark scripts one after the other and writes what they print to docs/benchmarks.md.

Usage: python benchmarks/support/collect.py SCRIPT.py ... [--out FILE]
    A script may bring arguments: "heads.py --json". Scripts of benchmarks/ that are not named are
    listed in the page as not run. One that fails is shown with its last words, and exit status 1.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HEAD = """# Benchmarks

What the scripts of `benchmarks/` printed, written by `make bench`. Most print a ratio to a named
alternative that was measured in the same run. Numbers of other pages come from the same scripts.
"""


def claim(script: Path) -> str:
    """Return the first line of a script's docstring, without its full stop."""
    return script.read_text(encoding="utf-8").split('"""')[1].strip().partition("\n")[0].rstrip(".")


def described() -> str:
    """Return the machine, the date and the commit as a list in Markdown."""
    from skelfew.runs import environment

    found = environment()
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    ).stdout
    commit = str(found["git_commit"]) + (", with changes that are not committed" if changed else "")
    rows = {
        "Machine": f"{found['processor']}, {found['cores']} cores, {found['platform']}",
        "Graphics cards": ", ".join(found["gpus"]) or "none",
        "Versions": ", ".join(f"{name} {v}" for name, v in found["versions"].items()),
        "Date": time.strftime("%Y-%m-%d %H:%M %z"),
        "Commit": commit,
        "Load when it began": f"{os.getloadavg()[0]:.1f}",
        "Threads": os.environ.get("OMP_NUM_THREADS", "as many as PyTorch takes"),
    }
    return "\n".join(f"- {name}: {value}" for name, value in rows.items())


def run(line: str) -> tuple[str, bool]:
    """Return the section of one script and whether it succeeded."""
    words = shlex.split(line)
    script = REPOSITORY / "benchmarks" / Path(words[0]).name
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script), *words[1:]],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    took = time.monotonic() - began
    good = done.returncode == 0
    printed = done.stdout if good else done.stdout + done.stderr[-2000:]
    shown = " ".join(["python", f"benchmarks/{script.name}", *words[1:]])
    state = f"{took:.0f} s" if good else f"**failed**, exit status {done.returncode}"
    return (
        f"## {script.name}\n\n{claim(script)}.\n`{shown}`, {state}:\n\n```text\n"
        f"{printed.strip()}\n```\n",
        good,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="run benchmarks and write the page of them")
    parser.add_argument("scripts", nargs="+", metavar="SCRIPT", help="with its arguments, quoted")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    chosen = {Path(shlex.split(line)[0]).name for line in arguments.scripts}
    scripts = sorted((REPOSITORY / "benchmarks").glob("*.py"))
    if unknown := chosen - {script.name for script in scripts}:
        sys.exit(f"benchmarks/ has no {', '.join(sorted(unknown))}")
    parts, fine = [HEAD, described() + "\n"], True
    for line in arguments.scripts:
        print(f"== {line}", file=sys.stderr, flush=True)
        section, good = run(line)
        parts.append(section)
        fine &= good
    if missing := [script for script in scripts if script.name not in chosen]:
        rows = "\n".join(f"- `{script.name}`: {claim(script)}" for script in missing)
        parts.append(f"## Not run this time\n\n{rows}\n")
    arguments.out.write_text("\n".join(parts), encoding="utf-8")
    print(arguments.out)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
