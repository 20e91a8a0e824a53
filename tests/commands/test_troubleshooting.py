"""The messages in docs/troubleshooting.md are printed by the commands: each is a row of error_messages.md."""

import re

from tests.commands.errors_page import PAGE
from tests.commands.world import REPO


def messages_of(text: str) -> list[str]:
    return re.findall(r"^\|.*?`(error: .*?)` \|", text, re.MULTILINE)


def test_the_twenty_messages_are_tested_messages():
    known = set(messages_of(PAGE.read_text(encoding="utf-8")))
    shown = messages_of((REPO / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))
    assert len(shown) == 20
    assert [message for message in shown if message not in known] == []
