"""Variables of torchrun that are set by accident, or by another launcher."""

import pytest

from utils import distributed
from utils.errors import UserError


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE=x is not that of a process"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 is not"),
        ({"RANK": "1"}, "RANK=1 is not"),
        ({"RANK": "3", "WORLD_SIZE": "2"}, "RANK=3 WORLD_SIZE=2 is not"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 without RANK, MASTER_ADDR, MASTER_PORT is not"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "without MASTER_ADDR, MASTER_PORT is not"),
    ],
)
def test_variables_of_no_group_are_named(variables, part, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.start().world_size == 1
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="^environment: ") as caught:
        distributed.start()
    assert part in str(caught.value) and "unset these variables" in str(caught.value)
