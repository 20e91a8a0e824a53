"""The messages of errors."""

from collections.abc import Callable
from typing import Any

import pytest

from utils.errors import UserError


def fault_of(function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The message of the UserError that `function(*arguments, **options)` raises: a single line."""
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def error_line(code: int, capsys: pytest.CaptureFixture) -> str:
    """The single line on stderr of a command that ended with the exit code of a user's mistake."""
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1, (code, error)
    return error
