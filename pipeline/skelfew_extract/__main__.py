"""``python -m skelfew_extract``: the same as ``skelfew-extract``."""

from skelfew_extract.cli import main

if __name__ == "__main__":
    main(prog_name="skelfew-extract")
