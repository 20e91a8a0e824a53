"""Every command in a ```sh block of README.md and docs/ runs, in order, on a small world (docs_world.py).

A command that needs something that tests do not have (a data set, a GPU, a camera, the network) is below a comment
`# needs: <what>` in its block. Its options and configs are still checked if its program is in a table below.

A new program is added to one of these tables.
"""

import importlib
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.commands import world
from tests.commands.docs_world import edit_my_config, make_docs_world, make_python
from tests.tools.loading import load_tool, run_tool

REPO = world.REPO
PAGES = ["README.md", *sorted(str(path.relative_to(REPO)) for path in (REPO / "docs").glob("*.md"))]

# Run here, in this process, with these words added to keep them short.
RUN = {
    "train.py": ["solver.epochs=1", "data.workers=0", "logging.tensorboard=false"],
    "test.py": ["data.workers=0"],
    "test_zeroshot.py": ["data.workers=0"],
    "predict.py": [],
    "tools/extract_frames.py": ["--workers", "1"],
    "tools/pack_videos.py": ["--workers", "1"],
    "tools/make_lists.py": [],
    "tools/summarise_runs.py": [],
}
# Their options are checked here; the test that is named runs the program from beginning to end.
PARSED = {
    "report.py": "tests/commands/test_report.py::test_a_run_becomes_one_page_with_film_strips",
    "export.py": "tests/commands/test_export.py::test_the_file_contains_the_model_and_its_metadata",
    "app.py": "tests/commands/test_app.py",
    "test_frozen.py": "tests/commands/test_frozen_probes.py",
    "benchmarks/scaling.py": "tests/test_scaling_page.py",
    "tools/check_attribution.py": "tests/tools/test_check_attribution.py",
    "tools/check_data.py": "tests/tools/test_check_data.py",
    "tools/extract_features.py": "tests/tools/test_extract_features.py",
    "tools/ray_predict.py": "tests/tools/test_ray_predict.py",
    "tools/base_to_novel.py": "tests/tools/test_series.py::test_base_to_novel",
    "tools/few_shot.py": "tests/tools/test_series.py::test_few_shot_runs_each_shot_and_seed_once",
    "tools/fit_lda.py": "tests/tools/test_fit_lda.py",
    "tools/interpolate.py": "tests/tools/test_interpolate.py",
    "tools/average_checkpoints.py": "tests/tools/test_interpolate.py",
    "demo/make_shapes_world.py": "tests/demo/test_shapes_world_cli.py",
}
# Too long for a test: what runs their parts.
NOT_RUN = {
    "scripts/run_demo.sh": "its steps are the commands of docs/testing.md, docs/training.md and docs/zero-shot.md",
    "scripts/run_tests.sh": "it runs the tests",
}
# Programs of the system that a command may begin with; all others are unknown.
SYSTEM = ("cp",)


class Command(NamedTuple):
    """A command of a page. `needs`: what the comment above it says that it needs; empty: nothing."""

    page: str
    line: int
    text: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def words(self) -> list[str]:
        """Without variables before it and comments after it."""
        words = shlex.split(self.text, comments=True)
        while words and re.match(r"\w+=", words[0]):
            words = words[1:]
        return with_file_name(words)

    @property
    def program(self) -> str:
        """`train.py`, `scripts/run_test.sh`, `cp`."""
        return self.words[1] if self.words[0] in ("python", "sh") and len(self.words) > 1 else self.words[0]


def with_file_name(words: list[str]) -> list[str]:
    """`python -m tools.NAME ...` as `python tools/NAME.py ...`, so that a program has one name."""
    if "-m" in words[:2]:
        place = words.index("-m")
        return [*words[:place], words[place + 1].replace(".", "/") + ".py", *words[place + 2 :]]
    return words


def commands_of(page: str) -> list[Command]:
    found, needs, inside, begun = [], "", False, None
    for number, line in enumerate((REPO / page).read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("```"):
            inside, needs = line.strip() == "```sh", ""
        elif inside and line.lstrip().startswith("#"):
            marked = re.match(r"\s*#\s*needs\b:?\s*(.*)", line)
            needs = marked[1] if marked else needs
        elif inside and line.strip():
            begun = (begun[0], begun[1] + line) if begun else (number, line)
            if begun[1].endswith("\\"):
                begun = (begun[0], begun[1][:-1])
            else:
                found.append(Command(page, begun[0], begun[1].strip(), needs))
                begun = None
    return found


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("docs")
    make_docs_world(root)
    return root


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(page, template, tmp_path, monkeypatch, capsys):
    commands = commands_of(page)
    folder = tmp_path / "repository"
    if any(not command.needs for command in commands):
        shutil.copytree(template, folder, symlinks=True)
        monkeypatch.chdir(folder)
        monkeypatch.setattr("utils.project_paths.REPOSITORY", folder)
    for command in commands:
        if command.needs:
            check_configs(command)
            for name, words in python_calls(command):
                check_options(command, name, words)
        elif command.program in NOT_RUN:
            assert (REPO / command.program).is_file()
        else:
            run(command, folder, capsys)
            edit_my_config(folder)


def run(command: Command, folder: Path, capsys) -> None:
    """Run the line in a shell whose `python` records its calls, then run those in this process."""
    is_known = command.program in (*RUN, *PARSED, *SYSTEM) or (
        command.words[0] == "sh" and (REPO / command.program).is_file()
    )
    if not is_known:
        pytest.fail(f"{command}\n  {command.program} is unknown here. {REMEDY}", pytrace=False)
    calls = folder / "calls"
    calls.write_bytes(b"")
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHON": str(folder / "bin" / "python"), "CALLS": str(calls)}
    environment.pop("NPROC", None)
    done = subprocess.run(
        ["sh", "-c", command.text],
        cwd=folder,
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    for words in (call.decode().split("\n")[:-1] for call in calls.read_bytes().split(b"\0")[:-1]):
        name, words = without_launcher(with_file_name(words))
        if name in PARSED:
            check_options(command, name, words)
        elif name in RUN:
            check_options(command, name, words)
            code = run_python(name, [*words, *RUN[name]])
            printed = capsys.readouterr()
            if code != 0:
                tail = "\n".join((printed.out + printed.err).splitlines()[-15:])
                pytest.fail(f"{command}\n  ended with exit code {code}:\n{tail}", pytrace=False)
        else:
            pytest.fail(f"{command}\n  calls {name}, which is unknown here. {REMEDY}", pytrace=False)


REMEDY = (
    "Add it to RUN or PARSED (the tables of tests/commands/test_docs_commands.py), or, if it needs something that "
    "tests do not have, write '# needs: <what>' above the command, in its block."
)


def run_python(name: str, words: list[str]) -> int:
    return run_tool((load_tool if name.startswith("tools/") else world.entry_script)(Path(name).stem), *words)


def python_calls(command: Command) -> list[tuple[str, list[str]]]:
    """The program of this repository that a command calls, and its options, if known here; it is not run."""
    words, program = command.words, command.program
    launched = {"run_train": "train.py", "run_test": "test.py", "run_test_zeroshot": "test_zeroshot.py"}
    launched |= {"run_train_multinodes": "train.py"}
    name = launched.get(Path(program).stem) if program.endswith(".sh") else program
    if program.endswith(".sh"):
        assert (REPO / program).is_file(), f"{command}\n  there is no {program}"
        config, words = ["--config", words[2]], words[3:]
        if name in ("test.py", "test_zeroshot.py"):
            config, words = [*config, "--weights", words[0]], words[1:]
        words = [*config, *(words[1:] if Path(program).stem == "run_train_multinodes" else words)]
    else:
        words = words[2:]
    return [(name, words)] if name in RUN or name in PARSED else []


def check_options(command: Command, name: str, words: list[str]) -> None:
    """Check that the program's parser accepts the words."""
    is_module = name.startswith(("tools/", "demo/"))
    module = importlib.import_module(name[:-3].replace("/", ".")) if is_module else world.entry_script(name[:-3])
    try:
        if hasattr(module, "parse_arguments"):
            module.parse_arguments(words)
    except SystemExit:
        pytest.fail(f"{command}\n  {name} does not take these options", pytrace=False)


def check_configs(command: Command) -> None:
    for word in command.words:
        for path in word.split(","):
            if path.startswith(("configs/", "lists/")) and path.endswith((".yaml", ".csv")):
                assert (REPO / path).is_file(), f"{command}\n  there is no {path}"


def without_launcher(words: list[str]) -> tuple[str, list[str]]:
    """The words without scripts/launch.py and its options, to run a single process."""
    if words[0] == "scripts/launch.py":
        words = words[next(i for i, word in enumerate(words) if i and word.endswith(".py")) :]
    return words[0], words[1:]


@pytest.mark.parametrize("name", sorted(PARSED))
def test_the_named_tests_exist(name):
    path, _, test = PARSED[name].partition("::")
    text = (REPO / path).read_text(encoding="utf-8")
    assert not test or f"def {test}(" in text


@pytest.mark.parametrize("text", ["python nothing.py a", "curl x", "python -m tools.make_lists folders --nonsense"])
def test_unknown_and_failing_commands_are_reported(text, tmp_path, capsys):
    make_python(tmp_path / "bin" / "python")
    with pytest.raises(pytest.fail.Exception) as caught:
        run(Command("page.md", 3, text, ""), tmp_path, capsys)
    assert "page.md:3" in str(caught.value)
    assert ("does not take these options" if "nonsense" in text else "RUN or PARSED") in str(caught.value)


def test_comments_mark_the_rest_of_their_block(monkeypatch, tmp_path):
    page = "before\n```sh\npython a.py x  # why\n# needs: a camera\nA=1 python b.py \\\n  y\n```\n```sh\nsh c.sh\n```\n"
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr(f"{__name__}.REPO", tmp_path)
    found = commands_of("page.md")
    assert [(c.program, c.needs, c.line) for c in found] == [("a.py", "", 3), ("b.py", "a camera", 5), ("c.sh", "", 9)]
    assert found[1].words == ["python", "b.py", "y"]
