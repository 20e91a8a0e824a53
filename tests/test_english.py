"""The project's language: no private or translated-sounding words in docs, comments, docstrings and messages."""

import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
MAX_DOCS_WORDS = 15_000

# Pattern -> replacement.
BANNED = {
    r"rooms?\b": "folder, space",
    r"stor(y|ies)\b": "command, script",
    r"told\b": "printed, recognised, given",
    r"house\b": "project",
    r"stands?\b(?!-)": "is, represents",
    r"mend(s|ed|ing)?\b": "fix, repair",
    r"(?<!there )(?<!here )(is|are|was|were) no\b(?! (longer|more|such))": "is not a",
    r"could not be had\b": "could not be loaded",
    r"anew\b": "again, from scratch",
    r"at work in it\b": "in use",
    r"torn\b": "truncated, corrupted",
    r"(is|are) no whole\b": "is truncated or corrupted",
    r"go(es)? on (with|from|where|to)\b": "continue, resume",
    r"embedded world\b": "demo, the demo's data",
    r"un-?tuned\b": "pretrained",
    r"strangers?\b": "untrusted, other users",
    r"ways? to tune\b": "method, adapter",
    r"(asked|asks) for (it|them|one)\b": "enabled, set, used",
    r"painted over\b": "masked",
    r"not measured (here|again)\b": "not reproduced here",
    r"(lines?|rows?|files?|frames|clips|steps|videos|kB|MB|GB|labels?|draws?) a "
    r"(second|step|clip|video|class|frame|file|line|epoch|batch|process|window|node|hour|session)\b": "per second",
    r"(is|are) to be\b": "must be, is",
    r"to be called\b": "call it",
    r"taken apart\b": "split",
    r"for people\b": "readable, for the log",
    r"that there (is|are)\b": "that exists",
    r"on the whole\b": "overall",
    r"makes its own\b": "computed by the model",
    r"has not the\b": "does not have",
    r"asked to stop\b": "received a request to stop",
    r"raises as\b": "raises the errors of",
}
PATTERN = re.compile(r"(?<![\w./_-])(" + "|".join(BANNED) + ")", re.IGNORECASE)


def git_files(*patterns: str) -> list[Path]:
    words = ["git", "ls-files", "-co", "--exclude-standard", *patterns]
    listed = subprocess.run(words, cwd=REPO, capture_output=True, text=True, check=True).stdout.splitlines()
    return [REPO / line for line in listed if (REPO / line).exists()]


SOURCES = [path for path in git_files("*.py") if path.name != "test_english.py"]
PAGES = [path for path in git_files("*.md") if path.relative_to(REPO).parts[0] != "lists"]
SCRIPTS = git_files("*.sh")


def prose_of(path: Path) -> list[tuple[int, str]]:
    """Comments and strings of several words with their lines; of a page its text without code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)
        return [(number, re.sub(r"`[^`]*`", "", line)) for number, line in enumerate(text.splitlines(), 1)]
    if path.suffix == ".sh":
        return [(number, line) for number, line in enumerate(text.splitlines(), 1)]
    kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds and " " in token.string:
            lines = re.sub(r"`[^`\n]*`", "", token.string).splitlines()
            found += [(token.start[0] + offset, line) for offset, line in enumerate(lines)]
    return found


def faults_in(path: Path) -> list[str]:
    return [
        f"{path.relative_to(REPO)}:{number}: {found[0]!r}"
        for number, line in prose_of(path)
        for found in [PATTERN.search(line)]
        if found
    ]


@pytest.mark.parametrize("files", [SOURCES, PAGES, SCRIPTS], ids=["python", "pages", "shell"])
def test_banned_words(files):
    assert files
    faults = [fault for path in files for fault in faults_in(path)]
    assert not faults, "\n".join([*faults, "instead: " + "; ".join(BANNED.values())])


def test_names_of_tests():
    names = re.findall(
        r"^def (test_\w+)", "\n".join(path.read_text(encoding="utf-8") for path in SOURCES), re.MULTILINE
    )
    assert names and not [name for name in names if PATTERN.search(name.replace("_", " ") + " ")]


def test_the_words_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.REPO", tmp_path)
    path = tmp_path / "a.py"
    path.write_text('x = f"{1}: is no list"  # made anew\ny = "there is no list"\nroom = 1  # `room` and understands\n')
    assert faults_in(path) == ["a.py:1: 'is no'", "a.py:1: 'anew'"]


def test_docs_stay_short():
    """Words of the pages in docs/, without the bars of tables."""
    words = {path.name: re.findall(r"\S*\w\S*", path.read_text(encoding="utf-8")) for path in REPO.glob("docs/*.md")}
    total = sum(map(len, words.values()))
    assert total <= MAX_DOCS_WORDS, f"docs/ has {total} words, at most {MAX_DOCS_WORDS}: tighten a page"
