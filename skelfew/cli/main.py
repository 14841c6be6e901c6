"""``skelfew``: all commands under one name."""

from importlib import import_module

import click

from skelfew.cli.options import CONTEXT, version_option

# Each is also a script of its own, skelfew-NAME, but demo and doctor.
COMMANDS = {
    "demo": "skelfew.cli.demo:main",
    "prepare": "skelfew.cli.prepare:main",
    "show": "skelfew.cli.show:main",
    "extract": "skelfew_extract.cli:main",
    "cache": "skelfew.cli.cache:main",
    "train": "skelfew.cli.train:main",
    "eval": "skelfew.cli.evaluate:main",
    "explain": "skelfew.cli.explain:main",
    "report": "skelfew.cli.report:main",
    "predict": "skelfew.cli.predict:main",
    "reproduce": "skelfew.cli.reproduce:main",
    "doctor": "skelfew.cli.doctor:main",
}


class _Commands(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name].split(":")
        return getattr(import_module(module), attribute)


@click.group(cls=_Commands, context_settings=CONTEXT)
@version_option
def main() -> None:
    """Recognise human actions from skeletons after seeing one to five examples.

    \b
    skelfew demo                                    the whole path on a world made on the spot
    skelfew predict --support my-actions clip.npy   name a recording, without training
    skelfew prepare nw-ucla --raw all_sqe.zip       a data set to manifest and skeletons
    skelfew train --cache cache/pku.zarr            an encoder from a teacher's cache
    skelfew eval --shots 1                          its few-shot score

    \b
    Completion of commands, options and values, for bash (zsh and fish likewise):
      eval "$(_SKELFEW_COMPLETE=bash_source skelfew)"
    """
