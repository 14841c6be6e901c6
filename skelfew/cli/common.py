"""What all commands share: one-line errors, exit codes, logging to stderr."""

import errno
import functools
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

OK, ERROR, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130

# What no program can help: a full disk, a file limit, a read-only or failing device, ...
_OF_THE_SYSTEM = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EACCES", "EPERM", "ENOMEM", "EMFILE")
    if hasattr(errno, name)
}

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def log(message: str) -> None:
    """Print a progress or log line to stderr; stdout is for results."""
    click.echo(message, err=True)


def printable(text: str) -> str:
    """Return a text that cannot move the cursor: a message may quote a file of somebody else."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


version_option = click.version_option(
    None, "--version", package_name="skelfew", message="skelfew %(version)s"
)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--debug`` and turn its errors into one line and an exit code.

    SkelfewError ends with status 1, Ctrl-C with 130; the command's own integer return value,
    if any, becomes the exit status. A full disk and the like are told as such. Other exceptions are
    bugs and ask for a report.
    """

    @version_option
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def command(*args: Any, debug: bool, **kwargs: Any) -> NoReturn:
        from skelfew.errors import SkelfewError

        try:
            status = function(*args, **kwargs)
        except SkelfewError as error:
            if debug:
                raise
            log(f"error: {printable(str(error))}")
            sys.exit(ERROR)
        except KeyboardInterrupt:
            log("interrupted; run the same command again to go on")
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(ERROR)
        except click.exceptions.Exit:
            raise
        except click.ClickException:
            raise
        except Exception as error:
            if debug:
                raise
            if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
                where = f"{error.filename}: " if error.filename else ""
                log(f"error: {where}{error.strerror}; mend that and run the command again")
                sys.exit(ERROR)
            log(
                f"error: {type(error).__name__}: {error} (this is a bug in skelfew; "
                "run with --debug and report what it prints)"
            )
            sys.exit(ERROR)
        sys.exit(status or OK)

    return command
