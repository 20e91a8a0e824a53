"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """A mistake in what the user gave: a config, a list, a file, a command line.

    The message is one line: it names the file, line or key, says what is wrong and what to do. Entry scripts print it
    without a traceback and exit with code 2.
    """
