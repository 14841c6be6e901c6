"""Runs benchmark scripts one after the other and writes what they print to docs/benchmarks.md.

Usage: python benchmarks/support/collect.py SCRIPT.py ... [--out FILE]
    A script may bring arguments: "heads.py --json". Sections of scripts that are not named stay as
    they are, each with its own date and commit; those of which there is none are listed as not run.
    One that fails is shown with its last words, and exit status 1.
"""

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HEAD = """# Benchmarks

What the scripts of `benchmarks/` printed, written by `make bench`. Most print a ratio to a named
alternative that was measured in the same run. Numbers of other pages come from the same scripts.
A line below each command says where and when it ran.
"""
_SECTION = re.compile(r"^## (?=[a-z_0-9]+\.py$)", re.MULTILINE)
_WIDTHS = {"avx512f": "AVX-512", "avx2": "AVX2"}
_MISSING = "## Not run"


def claim(script: Path) -> str:
    """Return the first line of a script's docstring, without its full stop."""
    return script.read_text(encoding="utf-8").split('"""')[1].strip().partition("\n")[0].rstrip(".")


def kind() -> str:
    """Return what the processor can do that products depend on."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return platform.machine()
    wide = next((shown for flag, shown in _WIDTHS.items() if flag in flags), platform.machine())
    half = {"avx512_bf16", "amx_bf16"} & flags
    return f"{wide} {'with' if half else 'without'} bfloat16"


def described() -> str:
    """Return machine, versions, date, commit and load in one sentence."""
    from skelfew.runs.folder import environment

    found = environment()
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", ":!docs"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    ).stdout
    commit = str(found["git_commit"])[:7] + (" with uncommitted changes" if changed else "")
    threads = os.environ.get("OMP_NUM_THREADS")
    return ", ".join(
        [
            f"{found['processor']} ({kind()}), {found['cores']} cores",
            ", ".join(found["gpus"]) or "no graphics card",
            f"{threads} thread{'s' if threads != '1' else ''}" if threads else "PyTorch's threads",
            f"load {os.getloadavg()[0]:.1f} before",
            *(f"{name} {found['versions'][name]}" for name in ("python", "torch")),
            time.strftime("%Y-%m-%d %H:%M %z"),
            f"commit {commit}",
        ]
    )


def sections(page: Path) -> dict[str, str]:
    """Return the sections of a page by script; empty if there is no page yet."""
    if not page.is_file():
        return {}
    text = page.read_text(encoding="utf-8").partition(_MISSING)[0]
    return {part.partition("\n")[0]: f"## {part}" for part in _SECTION.split(text)[1:]}


def places(found: dict[str, str]) -> str:
    """Return a table of the kinds of processor, and which script was last run on which."""
    kinds: dict[str, list[str]] = {}
    for name, text in sorted(found.items()):
        shown = re.search(r"\(([^()]+ bfloat16)\), \d+ cores", text)
        kinds.setdefault(shown[1] if shown else "not noted", []).append(f"`{name}`")
    rows = [f"| {kind} | {', '.join(names)} |" for kind, names in sorted(kinds.items())]
    return "\n".join(["| kind of processor | measured there |", "|---|---|", *rows]) + "\n"


def run(line: str) -> tuple[str, bool]:
    """Return the section of one script and whether it succeeded."""
    words = shlex.split(line)
    script = REPOSITORY / "benchmarks" / Path(words[0]).name
    about = described()
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
        f"## {script.name}\n\n{claim(script)}.\n`{shown}`, {state}; {about}:\n\n```text\n"
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
    found, fine = sections(arguments.out), True
    for line in arguments.scripts:
        print(f"== {line}", file=sys.stderr, flush=True)
        name = Path(shlex.split(line)[0]).name
        found[name], good = run(line)
        fine &= good
    parts = [
        HEAD,
        places(found),
        *(found[script.name] for script in scripts if script.name in found),
    ]
    if missing := [script for script in scripts if script.name not in found]:
        rows = "\n".join(f"- `{script.name}`: {claim(script)}" for script in missing)
        parts.append(f"{_MISSING}\n\n{rows}\n")
    arguments.out.write_text("\n".join(part.strip() + "\n" for part in parts), encoding="utf-8")
    print(arguments.out)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
