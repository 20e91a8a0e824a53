"""Argument parser and error reporting of all commands."""

import argparse
import difflib
import errno
import io
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from utils.errors import MachineError, UserError
from utils.stop import Stopped, is_first_failure, launch_folder, requeue_code
from utils.terminal import print_error_line

IGNORED = ("--local_rank", "--local-rank", "--dist_url", "--world_size", "--dist_backend")
"""Options of the published scripts' launchers, which have no effect."""
EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
EXIT_LOST_CONNECTION = 76  # EX_PROTOCOL of sysexits.h; used between a process and its launcher
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as in shells
EXIT_CLOSED_OUTPUT = 141  # 128 + SIGPIPE
STOPPED_BY_SIGNAL = "stopped by a signal; run the same command again (with resume=auto if it trains) to continue"

OUT_OF_MEMORY = (
    "out of GPU memory; lower data.batch_size (and raise solver.grad_accumulation_steps), or set "
    "solver.activation_checkpointing=true"
)
LOST_CONNECTION = (
    "lost the connection to another process: it exited, or its machine cannot be reached; add resume=auto to continue "
    "from the last checkpoint"
)
OUT_OF_MAIN_MEMORY = "out of memory; lower data.batch_size or data.workers, or raise the limit (ulimit -v)"
DISK_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EROFS), "free disk space"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "check the disk or the network mount"),
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n)"),
}
PATH_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its mode or owner, or that of a folder above it"),
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: "correct the links",
}


class Parser(argparse.ArgumentParser):
    """A parser of `--debug` and of options in snake_case, as `--test_crops`; `--test-crops` is accepted too.

    An unknown option is an error that suggests the nearest one; options cannot be abbreviated.

    Args:
        doc: the docstring of the command. The part after "Examples:" is shown at the end of `--help`.
    """

    def __init__(self, doc: str | None = None, **named: Any):
        description, _, examples = (doc or "").partition("\nExamples:\n")
        named = {"description": description.strip(), "epilog": examples and f"examples:\n{examples.rstrip()}"} | named
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **named)
        default = argparse.SUPPRESS if doc is None else False  # a subcommand keeps the value of the command
        self.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        return super().parse_known_args(self._spelled(args), namespace)

    def parse_intermixed_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        return super().parse_intermixed_args(self._spelled(args), namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USER_ERROR, f"error: {message}; {self.prog} --help lists the options\n")

    def _spelled(self, args: Sequence[str] | None) -> list[str]:
        """The command line with kebab-case options in snake_case; unknown options and empty words are errors."""
        words = list(sys.argv[1:] if args is None else args)
        if empty := [word for word in words if not word or re.fullmatch("--[a-z_-]+=", word)]:
            self.error(f"{empty[0] or 'an argument'} is empty; is a variable of the shell not set?")
        if self._subparsers is not None:  # each subcommand has its own parser
            return words
        for place, word in enumerate(words):
            if word == "--":  # removed here, because argparse refuses it between options and mixed operands
                words[place:] = [f"./{operand}" if operand[:1] == "-" else operand for operand in words[place + 1 :]]
                break
            if word[:1] == "-" and word not in self._option_string_actions and os.path.lexists(word):  # noqa: PTH110
                self.error(f"{word}: a path that begins with a dash must be given as ./{word}")
            name, equals, value = word.partition("=")
            if not name.startswith("--") or name in self._option_string_actions:
                continue
            snake = "--" + name[2:].replace("-", "_")
            if snake not in self._option_string_actions:
                self.error(f"unknown option {name}{self._hint(snake)}")
            words[place] = snake + equals + value
        return words

    def _hint(self, name: str) -> str:
        if "." in name:
            return f"; config keys are given without dashes: {name[2:]}=VALUE"
        near = difflib.get_close_matches(name, self._option_string_actions, n=1, cutoff=0.6)
        return f"; did you mean {near[0]}?" if near else ""


def config_parser(doc: str | None, required: bool = True, operands: Sequence[tuple[str, str]] = ()) -> Parser:
    """A parser with `--config`, `key=value` overrides and output options.

    Args:
        required: False: the config is optional, because the checkpoint contains it.
        operands: names and help of the positional arguments before the overrides.
    """
    parser = Parser(doc)
    for name, what in operands:
        parser.add_argument(name, metavar=name.upper(), help=what)
    default = "" if required else " (default: the checkpoint's)"
    parser.add_argument(
        "--config",
        "-cfg",
        required=required,
        metavar="YAML",
        help=f"config file; its keys are listed in docs/config.md{default}",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override config keys, e.g. solver.lr=1e-4")
    add_output_options(parser)
    return parser


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add `--quiet` and `--plain`."""
    parser.add_argument("--quiet", action="store_true", help="show only results, warnings and errors")
    parser.add_argument("--plain", action="store_true", help="show no progress bars, as if the output were a file")


def add_view_options(parser: argparse.ArgumentParser, dense: bool = True) -> None:
    """Add `--test_crops`, `--test_clips` and, if `dense`, `--dense`."""
    parser.add_argument("--test_crops", type=int, choices=(1, 3, 5, 10), default=1, help="crops per clip (default 1)")
    parser.add_argument("--test_clips", type=int, default=1, metavar="N", help="clips per video (default 1)")
    if dense:
        parser.add_argument("--dense", action="store_true", help="clips from windows of 128 frames (data.dense=true)")


def check_counts(args: argparse.Namespace, *names: str) -> None:
    """Raise a UserError if one of these options is given (not None) and below 1."""
    for name in names:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: must be at least 1")


def add_published_options(parser: argparse.ArgumentParser) -> None:
    """Add `--precision` and the options that the published launchers pass, see `apply_published_options`."""
    precisions = ("amp", "fp16", "fp32", "bf16", "auto")
    parser.add_argument("--precision", choices=precisions, help="same as solver.precision=...")
    for name in IGNORED:
        parser.add_argument(name, dest=name, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def apply_published_options(args: argparse.Namespace) -> list[str]:
    """Turn `--precision` into an override; an explicit `solver.precision=...` has priority. Returns at most one
    warning, about ignored options."""
    if args.precision is not None:
        args.overrides = [f"solver.precision={args.precision}", *args.overrides]
    ignored = ", ".join(name for name in IGNORED if hasattr(args, name))
    if not ignored:
        return []
    return [f"{ignored}: ignored; processes and addresses are read from the launcher's environment"]


def folder_beside(weights: str, name: str) -> Path:
    """The default output folder, `name` beside a checkpoint; the name of the checkpoint is appended unless
    last_model.pt."""
    path = Path(weights)
    return path.parent / (name if path.stem == "last_model" else f"{name}_{path.stem}")


def run_command(main: Callable[[argparse.Namespace], int | None], args: argparse.Namespace) -> int:
    """Run the main function of a command and return its exit code.

    A `UserError` is printed as `error: ...` with exit code 2. System failures (a killed process, a lost connection, a
    full disk, also as the cause of a `UserError`) are also printed in one line, with exit code 1. `--debug` shows the
    traceback instead. Anything else is a bug and is raised. If stdout was closed (`| head -1`), it exits silently.
    """
    sys.unraisablehook = _report_unraisable
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # characters that the terminal's encoding lacks
    try:
        _check_working_folder()
        code = main(args) or 0
        sys.stdout.flush()
        return code
    except Stopped:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(STOPPED_BY_SIGNAL, file=sys.stderr, flush=True)
        return requeue_code()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
    except Exception as error:
        code, line = explain_failure(error)
        if code == EXIT_LOST_CONNECTION and not args.debug:
            return code  # the launcher prints the cause, or LOST_CONNECTION if it is unknown
        is_first = is_first_failure(code)  # only the first failure of a launch is printed; others are its consequences
        if line is None or (args.debug and line):
            raise
        if is_first and line:
            rank = os.environ.get("RANK", "0")
            print_error_line(f"error{'' if rank == '0' else f' (process {rank})'}: {line}")
        return code


def _open_closed_streams() -> None:
    """Replace stdin, stdout and stderr by the null device where they are closed (`>&-`): the next file that is opened
    would become stdout."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115 - open until the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115


def _check_working_folder() -> None:
    """Raise a UserError if the working folder was removed, where even imports fail."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the working folder no longer exists; change to another one (cd)") from None


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Python's report of an exception in a destructor, except for a full disk, which is reported in one line."""
    if not isinstance(unraisable.exc_value, OSError) or unraisable.exc_value.errno not in DISK_REMEDIES:
        sys.__unraisablehook__(unraisable)


def explain_failure(error: BaseException) -> tuple[int, str | None]:
    """Exit code and the line to print ("" for none); None for a bug, which is raised."""
    if isinstance(error, (UserError, MachineError)):
        is_user = isinstance(error, UserError) and getattr(error.__cause__, "errno", None) not in DISK_REMEDIES
        return EXIT_USER_ERROR if is_user else EXIT_FAILURE, str(error)
    if isinstance(error, OSError) and error.errno in DISK_REMEDIES:
        remedy = DISK_REMEDIES[error.errno]
        return EXIT_FAILURE, f"{error.filename or 'the disk'}: {error.strerror}; {remedy} and run again"
    if isinstance(error, OSError) and error.errno in PATH_REMEDIES and error.filename is not None:
        return EXIT_USER_ERROR, f"{error.filename}: {error.strerror}; {PATH_REMEDIES[error.errno]}"
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return EXIT_FAILURE, f"{error.strerror}; free disk space there, or set TMPDIR to another folder"
    if isinstance(error, MemoryError) or "failed to map segment" in str(error):  # the latter: loading PyTorch
        return EXIT_FAILURE, OUT_OF_MAIN_MEMORY
    if isinstance(error, BrokenPipeError) and _drop_closed_stdout():
        return EXIT_CLOSED_OUTPUT, ""
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's; importing it here would slow down `--help`
        return EXIT_FAILURE, OUT_OF_MEMORY
    if _is_lost_connection(error):
        return EXIT_FAILURE if launch_folder() is None else EXIT_LOST_CONNECTION, LOST_CONNECTION
    return EXIT_FAILURE, None


def _drop_closed_stdout() -> bool:
    """Whether stdout was closed by its reader; buffered output is then dropped, so that Python can exit."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not poll.poll(0):  # POLLERR and POLLHUP are always reported
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _is_lost_connection(error: BaseException) -> bool:
    """Whether gloo, NCCL or PyTorch's store lost another process; their other errors are bugs."""
    name, text = type(error).__name__, str(error)
    if name in ("DistNetworkError", "DistStoreError"):
        return True
    is_backend = name == "DistBackendError" or (isinstance(error, RuntimeError) and "gloo/transport" in text)
    return is_backend and re.search(r"Connection|[Tt]imed out|timeout|Read error|ncclRemoteError", text) is not None
