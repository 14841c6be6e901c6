"""What skelfew-cache does: a file for each subcommand."""
