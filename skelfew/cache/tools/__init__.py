"""The subcommands of skelfew-cache, a file each."""
