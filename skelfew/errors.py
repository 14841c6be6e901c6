"""The one exception family that a user is meant to read."""


class SkelfewError(ValueError):
    """Something the user can fix; the message names the file, the value and what to do."""
