"""``skelfew demo``: from nothing to a one-shot table on a world made on the spot."""

import json
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from skelfew.cli.common import INTERRUPTED, OK, guarded, log, say
from skelfew.cli.options import CONTEXT, flag
from skelfew.errors import SkelfewError

# Both are of the same encoder, compared by the same matcher (docs/training.md, preset laptop).
_RUNS = {
    "demo-labels": "--preset laptop",
    "demo-contrast": "--preset laptop --stages infonce --representation f_t --epochs 15 --batch 64 "
    "--lr 0.003 --set infonce.hidden_dim=1024 --set infonce.optimizer.warmup=2",
}
_WORLD, _CACHE, _PAGE = Path("data/demo.h5"), Path("cache/demo.zarr"), Path("runs/demo.html")
_QUICK_WORLD = "--option subjects=2 --option views=1 --option size=96"
_QUICK = "--frames 8 --epochs 1 --batch 16 --set classify.clips=100"


@click.command(context_settings=CONTEXT)
@flag("--quick", "A handful of samples, hardly any training: a check.")
@guarded
def main(quick: bool) -> int:
    """Show the whole path in the current folder, two to four minutes on two cores.

    \b
    skelfew demo

    It makes a world of 66 actions, names twelve of them from one exemplar each without training,
    has a small teacher watch the videos, trains encoders from its features and from class
    labels, and compares all of them. Stopped, it goes on when it is called again.
    """
    demo = _Demo(quick)
    try:
        return demo.run()
    except KeyboardInterrupt:
        log("interrupted; the same command goes on from here")
        return INTERRUPTED


class _Demo:
    def __init__(self, quick: bool):
        self.quick, self.began, self.step = quick, time.monotonic(), 0

    def run(self) -> int:
        world = _QUICK_WORLD if self.quick else ""
        with_videos = _installed("av") and _installed("open_clip_torch")
        if not _WORLD.is_file():
            self.title("A world: 66 actions, eight performers, their skeletons before two cameras")
            _quiet(f"prepare demo --option video=false {world}")
        self.title("First result: one exemplar each of twelve actions, nothing is trained")
        untrained = [
            *self.scores("--dataset demo --shots 1 --raw joints"),
            *self.scores("--dataset demo --shots 1 --raw"),
        ]
        if not with_videos:
            raise SkelfewError(
                "the rest of the demo has videos and a teacher: pip install 'skelfew[extract]', "
                "and call it again"
            )
        if not _CACHE.exists():
            self.title("A video of each performance")
            _quiet(f"prepare demo {world}")
        self.title("The teacher, which never saw these people, watches every video once")
        _quiet("extract demo --teacher xclip-demo --preview previews/demo")
        self.title(
            "Training, side by side: by class labels, and by a contrast to what the teacher saw"
        )
        self.train()
        self.title("The same twelve actions, which no encoder has seen, with one exemplar each")
        runs = [f"runs/{name}" for name in _RUNS]
        trained = self.scores(f"--shots 1 {' '.join(f'--run {run}' for run in runs)}")
        say(_compared(untrained, trained))
        self.title(
            "And without any exemplar, by the names of the actions, as only a teacher allows"
        )
        self.scores(f"--shots 0 --run {runs[-1]}")
        self.title("Pictures, and a page with mistakes that move")
        from skelfew.report.answers import draw

        shown = draw([Path(run) for run in runs])
        _quiet(f"report {' '.join(runs)} --html {_PAGE} --embed")
        log(f"done after {self.seconds}")
        for path in (_PAGE, *shown, Path("previews/demo")):
            say(path)
        return OK

    def scores(self, line: str) -> list[tuple[str, float]]:
        """Evaluate, print a line for each row, and return the rows' names and accuracies."""
        done = subprocess.run(_command(f"eval {line} --json"), capture_output=True)
        if done.returncode:
            raise SkelfewError(f"skelfew eval {line}: {done.stderr.decode(errors='replace')}")
        rows = json.loads(done.stdout)["rows"]
        for row in rows:
            name, score = f"{row['features']}, {row['classifier']}", row["micro"]
            chance = row["results"][0]["chance"]
            say(
                f"  {name:<28} {100 * score['value']:5.1f} % "
                f"[{100 * score['low']:.1f}, {100 * score['high']:.1f}], chance {100 * chance:.1f}"
            )
        return [(f"{row['features']}, {row['classifier']}", row["micro"]["value"]) for row in rows]

    def train(self) -> None:
        """Train all runs at the same time, each on one core."""
        children = {}
        for name, options in _RUNS.items():
            run = Path("runs") / name
            if run.is_dir():
                line = f"train --resume {run}"
            else:
                line = f"train --run {run} --cache {_CACHE} {options}"
                line += f" {_QUICK}" if self.quick else ""
            children[name] = subprocess.Popen(
                _command(line), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        try:
            ends = {name: child.communicate() for name, child in children.items()}
        except KeyboardInterrupt:
            for child in children.values():
                child.wait()
            raise
        for name, child in children.items():
            if child.returncode:
                log(ends[name][1])
                raise SkelfewError(f"training runs/{name} failed")

    @property
    def seconds(self) -> str:
        """Return the time since the start."""
        return f"{time.monotonic() - self.began:.0f} s"

    def title(self, text: str) -> None:
        """Print the title of the next step, and when it begins."""
        self.step += 1
        click.secho(f"\n{self.step}. {text} (after {self.seconds})", bold=True, err=True)


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _command(line: str) -> list[str]:
    log(f"skelfew {' '.join(line.split())}")
    return [sys.executable, "-m", "skelfew", *line.split()]


def _quiet(line: str) -> None:
    """Run a command that shows its progress on stderr, without its results."""
    done = subprocess.run(_command(line), stdout=subprocess.DEVNULL)
    if done.returncode:
        raise SkelfewError(f"skelfew {line.split()[0]} ended with status {done.returncode}")


def _compared(untrained: list[tuple[str, float]], trained: list[tuple[str, float]]) -> str:
    """Return in a sentence whether training paid."""
    (plain, low), (learned, high) = (max(rows, key=lambda r: r[1]) for rows in (untrained, trained))
    points = 100 * (high - low)
    if points > 0:
        return f"  {learned} is {points:.1f} points above {plain}, the best without training."
    return (
        f"  {plain}, without training, is {-points:.1f} points above {learned}: these made-up\n"
        "  people perform an action nearly alike, so comparing poses moment by moment is hard to\n"
        "  beat here, and training is short."
    )
