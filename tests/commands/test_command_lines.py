"""One grammar of command lines: options in snake_case, kebab-case accepted, mistyped names, examples in `--help`."""

import importlib
import shlex
from pathlib import Path

import pytest

from tests.commands.world import REPO, command, entry_script
from utils.cli import Parser, config_parser, run_command

ENTRY_SCRIPTS = ("train", "test", "test_zeroshot", "test_frozen", "predict", "report", "app", "export")
MODULES = sorted(
    f"{path.parent.name}.{path.stem}"
    for folder in ("tools", "demo")
    for path in (REPO / folder).glob("*.py")
    if "Parser(" in path.read_text(encoding="utf-8") or "config_parser(" in path.read_text(encoding="utf-8")
)


def load(name: str):
    return entry_script(name) if name in ENTRY_SCRIPTS else importlib.import_module(name)


def help_of(name: str, capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        load(name).parse_arguments(["--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def fails(capsys, parser: Parser, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        parser.parse_intermixed_args(words)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


def test_every_program_is_covered():
    assert len(MODULES) >= 12
    programs = [
        str(path.relative_to(REPO))
        for path in [*REPO.glob("*.py"), *REPO.glob("tools/*.py"), *REPO.glob("demo/*.py")]
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    ]
    assert {path.removesuffix(".py").replace("/", ".") for path in programs} <= {*ENTRY_SCRIPTS, *MODULES}


@pytest.mark.parametrize("name", [*ENTRY_SCRIPTS, *MODULES])
def test_help_ends_with_examples_that_parse(name, capsys):
    options, _, examples = help_of(name, capsys).partition("\nexamples:\n")
    assert examples.strip()
    assert ("  --config YAML" in options) == ("  --config YAML, -cfg YAML" in options)
    start = f"python {name}.py" if name in ENTRY_SCRIPTS else f"python -m {name}"
    for line in examples.strip().splitlines():
        assert line.strip().startswith(start), line
        load(name).parse_arguments(shlex.split(line.strip().removeprefix(start)))


@pytest.mark.parametrize("path", [f"{name}.py" for name in ENTRY_SCRIPTS] + ["tools", "demo", "utils/cli.py"])
def test_options_are_in_snake_case(path):
    files = [REPO / path] if path.endswith(".py") else sorted((REPO / path).glob("*.py"))
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            option = line.partition('add_argument("--')[2].partition('"')[0]
            assert "-" not in option, f"{file}: --{option}"


def test_kebab_case_is_accepted():
    args = load("test").parse_arguments(["--weights", "a.pt", "--test-crops=3", "--test-clips", "4", "a-b=c-d"])
    assert (args.test_crops, args.test_clips, args.overrides) == (3, 4, ["a-b=c-d"])
    words = ["folders", "--root", "a", "--out", "b", "--val-share", "0.5"]
    assert load("tools.make_lists").parse_arguments(words).val_share == 0.5


def test_words_after_two_dashes_are_not_options():
    parser = Parser("")
    parser.add_argument("files", nargs="*")
    for parse in (parser.parse_args, parser.parse_intermixed_args):
        assert parse(["a", "--", "--no-such", "b"]).files == ["a", "./--no-such", "b"]


def test_a_file_whose_name_begins_with_a_dash(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("-clip.mp4").touch()
    assert load("predict").parse_arguments(["--", "-clip.mp4"]).videos == ["./-clip.mp4"]
    with pytest.raises(SystemExit):
        load("predict").parse_arguments(["-clip.mp4"])
    assert "-clip.mp4: a path that begins with a dash must be given as ./-clip.mp4" in capsys.readouterr().err


def test_a_working_folder_that_was_removed_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run_command(lambda args: 0, Parser("").parse_args([])) == 2
    assert capsys.readouterr().err == "error: the working folder no longer exists; change to another one (cd)\n"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--test_crop", "3"], "unknown option --test_crop; did you mean --test_crops?"),
        (["--wieghts=a.pt"], "unknown option --wieghts; did you mean --weights?"),  # instead of the missing --weights
        (["--solver.lr=1"], "unknown option --solver.lr; config keys are given without dashes: solver.lr=VALUE"),
        (["--qqqq"], "unknown option --qqqq; "),
        (["--config", "a", "--weights", ""], "an argument is empty; is a variable of the shell not set?"),
        (["--config", "a", "--weights="], "--weights= is empty; is a variable of the shell not set?"),
        ([], "the following arguments are required: --config/-cfg, --weights; "),
        (["--config", "a", "--weights"], "argument --weights: expected one argument"),
        (["--config", "a", "--weights", "b", "--test_crops", "x"], "argument --test_crops: invalid int value: 'x'"),
    ],
)
def test_a_wrong_option_is_a_one_line_error(words, part, capsys):
    parser = config_parser("")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--test_crops", type=int)
    error = fails(capsys, parser, *words)
    assert part in error and "--help lists the options" in error


def test_an_option_of_a_subcommand(capsys):
    with pytest.raises(SystemExit):
        load("tools.make_lists").parse_arguments(["folders", "--rot", "a", "--out", "b"])
    assert "unknown option --rot; did you mean --root?" in capsys.readouterr().err


LAUNCHERS = {"run_train": "train", "run_train_multinodes": "train", "run_fewshot": "train", "run_test": "test"}


@pytest.mark.parametrize(("launcher", "script"), {**LAUNCHERS, "run_test_zeroshot": "test_zeroshot"}.items())
def test_launchers_forward_help_wherever_it_is(launcher, script, tmp_path):
    (tmp_path / "my.yaml").touch()
    for words in ((), ("my.yaml",), ("my.yaml", "data.shot=1")):
        done = command("sh", REPO / "scripts" / f"{launcher}.sh", *words, "--help", PYTHON="echo", NPROC="2")
        assert (done.returncode, done.stdout.strip()) == (0, f"{script}.py --help"), done.stderr


def test_the_demo_takes_no_arguments():
    done = command("sh", "scripts/run_demo.sh", "solver.epochs=1")
    assert done.returncode == 2 and done.stderr.startswith("error: solver.epochs=1: this script takes no arguments")


def test_launchers_have_headers_that_show_their_use():
    for path in Path(REPO / "scripts").glob("run_*.sh"):
        assert f"#   sh scripts/{path.name}" in path.read_text(encoding="utf-8")
