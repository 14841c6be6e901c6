"""The one exception family that a user is meant to read."""


class SkelfewError(ValueError):
    """Something the user can mend; the message names the file, the value and what to do."""
