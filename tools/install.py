"""Install skelfew with extras into the environment of this Python, with one line of progress.

    .venv/bin/python tools/install.py prepare,extract

pip compiles what it installs on one core, so compilation comes afterwards, on all cores. Versions
are those of constraints.txt, which are the versions that CI ran; further arguments go to pip.
"""

import compileall
import contextlib
import io
import re
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
STEP = re.compile(r"^\s*(Collecting|Downloading|Using cached|Installing|Building) ?(\S*)")


def main(extras: str, arguments: list[str]) -> int:
    """Run pip, then compile. Return pip's exit status; its whole output is shown if it fails."""
    command = [
        *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"),
        *("--constraint", str(REPOSITORY / "constraints.txt"), *arguments),
        *("--editable", f"{REPOSITORY}[{extras}]"),
    ]
    started, output, packages = time.monotonic(), [], 0
    print(f"installing skelfew[{extras}]: some minutes, most of them for PyTorch", file=sys.stderr)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            output.append(line)
            if not (step := STEP.match(line)):
                continue
            packages += step[1] == "Collecting"
            name = Path(step[2]).name or "everything"
            show(f"{packages} packages, {seconds(started)}: {step[1].lower()} {name}")
    if pip.returncode:
        print("\n" + "".join(output[-60:]), file=sys.stderr)
        return pip.returncode
    show(f"{packages} packages, {seconds(started)}: compiling")
    # Templates in some packages are not Python; pip ignores them as well.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2, workers=0)
    show(f"{packages} packages, {seconds(started)}: done")
    print(file=sys.stderr)
    return 0


def seconds(started: float) -> str:
    """Return the time since ``started``."""
    return f"{time.monotonic() - started:.0f} s"


def show(text: str) -> None:
    """Replace the line of progress; elsewhere than on a terminal, a line for each tenth step."""
    if sys.stderr.isatty():
        print(f"\r\033[K  {text[:76]}", end="", file=sys.stderr, flush=True)
    elif text.endswith(("compiling", "done")) or re.match(r"\d*0 packages.*collecting", text):
        print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
