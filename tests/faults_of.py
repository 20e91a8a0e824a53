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
