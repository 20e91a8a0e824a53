"""Exceptions that are shown to users as one line."""


class UserError(Exception):
    """A mistake in what the user gave: a config, a list, a file, a command line.

    The message is one line: it names the file, line or key, says what is wrong and what to do. Entry scripts print it
    without a traceback and exit with code 2.
    """


class MachineError(Exception):
    """A failure of the machine: a process was killed, memory ran out. One line and exit code 1, no traceback."""


def first_line(error: BaseException) -> str:
    """The text of another library's error in one line of at most 200 characters; its type's name where it has none."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
