"""What this room raises: it imports none of the project's, so it has its own exception."""


class ClipError(Exception):
    """A name, a weights file or an image size that cannot be used. One line: what, what is wrong, what to do.

    `modules.build` turns it into the `UserError` that the entry scripts print.
    """


def first_line(error: Exception) -> str:
    """What an exception says, in one line of at most 200 characters; its type where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
