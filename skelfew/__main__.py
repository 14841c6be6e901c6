"""``python -m skelfew`` is the command ``skelfew``."""

from skelfew.cli.main import main

if __name__ == "__main__":
    main(prog_name="skelfew")
