"""What every command line shares: config arguments, and the one place where a mistake or a failure becomes one line."""

import argparse
import errno
import io
import os
import re
import select
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from utils.errors import MachineError, UserError
from utils.stop import Stopped, is_first_failure, launch_note, requeue_code

EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_CLOSED_OUTPUT = 141  # 128 + SIGPIPE
ASKED_TO_STOP = "asked to stop; the same command, with resume=auto where it trains, goes on"

OUT_OF_MEMORY = (
    "the GPU has too little memory; lower data.batch_size (and raise solver.grad_accumulation_steps), or set "
    "solver.activation_checkpointing=true"
)
LOST_CONNECTION = (
    "lost the connection to another process ({}): it ended, or its machine cannot be reached; "
    "add resume=auto to go on from the last checkpoint"
)
# What gloo, NCCL and PyTorch's store say of a connection.
_CONNECTION = re.compile(
    r"Connection closed by peer|Connection reset by peer|Connection was likely closed|Connection refused|Broken pipe"
    r"|Timed out waiting \d+ ?ms|[Tt]imed out after \d+|wait timeout|Application timeout caused pair closure|Read error"
    r"|Watchdog caught collective|ncclRemoteError|Socket Timeout|failed to recv|recvValue failed",
)
DISK_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EROFS), "free disk space"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "check the disk or the network mount"),
}


def config_parser(description: str | None, required: bool = True) -> argparse.ArgumentParser:
    """A parser with `--config`, `key=value` overrides, and how much to show.

    Args:
        required: False: the config may be left out, since a checkpoint knows its recipe.
    """
    parser = argparse.ArgumentParser(description=description)
    text = "the recipe; docs/config.md explains its keys" + ("" if required else " (default: the checkpoint's)")
    parser.add_argument("--config", "-cfg", required=required, metavar="YAML", help=text)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override, as solver.lr=1e-4")
    add_output_options(parser)
    return parser


def first_line(docstring: str | None) -> str:
    """The first line of a module's docstring, as a parser's description."""
    return (docstring or "").partition("\n")[0]


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """`--quiet`, `--plain` and `--debug`: how much a command shows."""
    parser.add_argument("--quiet", action="store_true", help="show only results, warnings and errors")
    parser.add_argument("--plain", action="store_true", help="no progress bars, as where the output is a file")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


class _Ignored(argparse.Action):
    """An option that is accepted for the sake of users' scripts and has no effect; `ignored` lists those given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        namespace.ignored = [*namespace.ignored, option_string]


def add_published_options(parser: argparse.ArgumentParser) -> None:
    """`--precision`, and the options of distributed training that the published scripts and launchers pass.

    `apply_published_options` gives them their effect.
    """
    parser.set_defaults(ignored=[])
    precisions = ("amp", "fp16", "fp32", "bf16", "auto")
    parser.add_argument("--precision", choices=precisions, help="the same as solver.precision=...")
    for names in (("--local_rank", "--local-rank"), ("--dist_url",), ("--dist_backend",), ("--world_size",)):
        parser.add_argument(*names, action=_Ignored, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def apply_published_options(args: argparse.Namespace) -> list[str]:
    """Turn `--precision` into an override, which an explicit `solver.precision=...` overrides in turn.

    Returns:
        one warning that names the options without effect, or none.
    """
    if args.precision is not None:
        args.overrides = [f"solver.precision={args.precision}", *args.overrides]
    if not args.ignored:
        return []
    names = ", ".join(dict.fromkeys(args.ignored))
    return [f"{names}: no effect; processes and their addresses come from the launcher's environment"]


def folder_beside(weights: str, name: str) -> Path:
    """Where results go by default: `name` beside a checkpoint, with the checkpoint's own, since a run has several."""
    path = Path(weights)
    return path.parent / (name if path.stem == "last_model" else f"{name}_{path.stem}")


def next_report(weights: str | None, out: Path) -> str:
    """The command that makes a page of the results in `out`: of the whole run where they lie beside its checkpoint."""
    is_beside = weights is not None and out.parent == Path(weights).parent
    return f"next: {shlex.join(('python', 'report.py', str(out.parent if is_beside else out)))}"


def run_command(main: Callable[[argparse.Namespace], int | None], args: argparse.Namespace) -> int:
    """Run the main function of a command: a `UserError` is printed as `error: ...` and gives exit code 2.

    A failure of the machine (a killed process, a lost connection, a full disk) is one line too, with exit code 1. With
    `--debug` the traceback comes instead. Anything else is a bug and keeps its traceback. Where nobody reads the output
    any more (`| head -1`), the end is silent, as of other programs.
    """
    sys.unraisablehook = _report_unraisable
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal's encoding may lack a name's characters
    code = 0
    try:
        code = main(args) or 0
        sys.stdout.flush()
        return code
    except Stopped:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(ASKED_TO_STOP, file=sys.stderr, flush=True)
        return requeue_code()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _drop_closed_output():
            is_first_failure(code := code or EXIT_CLOSED_OUTPUT)
            return code
        code = EXIT_USER_ERROR if isinstance(error, UserError) else EXIT_FAILURE
        lost = _lost_connection(error)
        line = lost or explain_failure(error)
        if line is None or args.debug:
            is_first_failure(code)  # what other processes meet because of this is not printed
            raise
        _print_failure(line, code, is_lost=lost is not None)
        return code


def _drop_closed_output() -> bool:
    """Whether nobody reads stdout or stderr; what they still hold is then dropped, or Python's end would complain."""
    is_closed = False
    for stream in (sys.stdout, sys.stderr):
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        if poll.poll(0):  # only POLLERR and POLLHUP, which need no asking for
            is_closed = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return is_closed


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Python's own report of an exception in a destructor, but for failures that are reported in one line."""
    if unraisable.exc_value is None or explain_failure(unraisable.exc_value) is None:
        sys.__unraisablehook__(unraisable)


def explain_failure(error: BaseException) -> str | None:
    """The line to show for a mistake of the user or a failure of the machine; None for anything else: a bug."""
    if isinstance(error, (UserError, MachineError)):
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_REMEDIES:
        return f"{error.filename or 'the disk'}: {error.strerror}; {DISK_REMEDIES[error.errno]} and run again"
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, by name: without importing it, `--help` is fast
        return OUT_OF_MEMORY
    return None


def _lost_connection(error: BaseException) -> str | None:
    """The line for a connection to another process that is lost; None for any other error."""
    is_network = type(error).__name__.startswith("Dist") or "gloo/transport" in str(error)
    found = _CONNECTION.search(str(error)) if isinstance(error, RuntimeError) and is_network else None
    return found and LOST_CONNECTION.format(found[0])


def _print_failure(line: str, code: int, is_lost: bool) -> None:
    """Print an error. Of the processes of one launch only the first to fail does: what the others meet follows from it.

    A lost connection, too, follows from something else: it is left to the launcher, which may know the cause.
    """
    rank = os.environ.get("RANK", "0")
    line = f"error{'' if rank == '0' else f' (process {rank})'}: {line}"
    lost = launch_note("lost")
    if is_lost and lost is not None:
        lost.write_text(line, encoding="utf-8")
    elif is_first_failure(code):
        print(line, file=sys.stderr, flush=True)
