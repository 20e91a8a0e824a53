"""Exceptions that are shown to users as one line."""


class UserError(Exception):
    """A mistake of the user in a config, list, file or command line.

    The message is one line with the file, line or key, what is wrong and what to do. Entry scripts print it without a
    traceback and exit with code 2.
    """


class MachineError(Exception):
    """A system failure, such as a killed process or lack of memory. Printed in one line, with exit code 1."""


def first_line(error: BaseException) -> str:
    """The message of another library's exception in one line of at most 200 characters, or its type if it is empty."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
