"""Common code of all commands: one-line errors, exit codes, logging to stderr."""

import errno
import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from skelfew.cli.options import flag, version_option
from skelfew.io.clean import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console

OK, ERROR, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130

# What to do about an error of the system, beside fixing it and running the command again.
_HINTS = {
    errno.ENOLCK: "this file system has no locks (NFS?); use a folder on a local disk",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "it was deleted or moved while the command ran",
    errno.EACCES: "choose a folder that you can write to",
    errno.EROFS: "choose a folder that you can write to",
}
_EXTRAS = {  # of pyproject.toml: what they bring that a command may ask for
    "extract": ("skelfew_extract", "av", "decord", "torchvision", "open_clip"),
    "text": ("transformers",),
    "prepare": ("scipy",),
    "pose": ("mediapipe",),
    "show": ("PIL",),
    "explain": ("captum", "matplotlib"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "ray": ("ray",),
    "metric": ("pytorch_metric_learning",),
    "remote": ("fsspec", "aiohttp", "s3fs", "paramiko", "huggingface_hub"),
    "gs": ("gcsfs",),
    "az": ("adlfs",),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}


def log(message: str) -> None:
    """Print a progress or log line to stderr; stdout is for results."""
    click.echo(printable(message), err=True)


def say(text: object) -> None:
    """Print a result to stdout; names of others cannot move the cursor."""
    click.echo(printable(text))


def say_in_place(text: str, width: int) -> int:
    """Print a line over the last one, which had ``width`` characters; return the new width."""
    shown = printable(text)
    click.echo("\r" + shown.ljust(width) + ("" if shown else "\r"), nl=False)
    return len(shown)


def say_json(document: Any, indent: int | None = 1) -> None:
    """Print one JSON document to stdout."""
    click.echo(json_text(document, indent))


def console(**options: Any) -> "Console":
    """Return what prints tables: no markup, no emoji codes, and nothing that moves the cursor."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **style: Any) -> Text:
            return super().render_str(printable(text), **style)

    return Plain(markup=False, emoji=False, highlight=False, **options)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--debug`` and turn its errors into one line and an exit code.

    SkelfewError ends with status 1, Ctrl-C with 130; the command's own integer return value,
    if any, becomes the exit status. A full disk and the like are named. Other exceptions are
    bugs and ask for a report.
    """

    @version_option
    @flag("--debug", "Show the traceback of an error.")
    @functools.wraps(function)
    def command(*args: Any, debug: bool, **kwargs: Any) -> NoReturn:
        from skelfew.errors import SkelfewError
        from skelfew.io.processes import safe_path

        safe_path()
        try:
            status = function(*args, **kwargs)
        except SkelfewError as error:
            if debug:
                raise
            log(f"error: {error}")
            sys.exit(ERROR)
        except KeyboardInterrupt:
            log("interrupted; run the same command again to go on")
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(ERROR)
        except (click.exceptions.Exit, click.ClickException):
            raise
        except Exception as error:
            if debug:
                raise
            if (why := of_the_system(error)) is not None:
                log(f"error: {why}")
                sys.exit(ERROR)
            log(
                f"error: {type(error).__name__}: {error} (this is a bug in skelfew; "
                "run with --debug and report what it prints)"
            )
            sys.exit(ERROR)
        sys.exit(status or OK)

    return command


def of_the_system(error: BaseException) -> str | None:
    """Return in a line what the machine lacks, with the way out; None for a fault of skelfew."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("skelfew."):
        name = (error.name or text).partition(".")[0]
        extra = next((f"'skelfew[{e}]'" for e, names in _EXTRAS.items() if name in names), name)
        return f"the package {name} is not installed; pip install {extra}"
    short = ("memory", "failed to map segment", "cannot allocate", "paging file")
    if isinstance(error, MemoryError) or any(word in str(error).lower() for word in short):
        return f"not enough memory ({text}); close other programs, or use smaller batches"
    if isinstance(error, ImportError):
        return f"a package cannot be loaded ({text}); install skelfew again"
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        hint = _HINTS.get(error.errno, "fix that and run the command again")
        return f"{where}{error.strerror}; {hint}"
    if isinstance(error, RuntimeError | AssertionError) and "cuda" in str(error).lower():
        return f"the GPU cannot be used ({text}); --device cpu can"
    return None
