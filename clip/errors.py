"""What this room raises: it imports none of the project's, so it has its own exception."""


class ClipError(Exception):
    """A name, a weights file or an image size that cannot be used. One line: what, what is wrong, what to do.

    `modules.build` turns it into the `UserError` that the entry scripts print.
    """
