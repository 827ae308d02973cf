"""The errors a user is meant to read, each with the exit code of its kind."""


class SecondsourceError(Exception):
    """An error whose text is for the user: what was expected, where, and what to do."""

    exit_code = 1


class InputError(SecondsourceError):
    """The user's input is wrong: a file, a flag, an environment variable."""

    exit_code = 2


class NoAnswerError(SecondsourceError):
    """The input is fine and the answer is no."""

    exit_code = 1
