"""What every command line shares: config arguments, and the one place where a mistake or a loss becomes one line."""

import argparse
import errno
import os
import re
import select
import shlex
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path

from utils.errors import UserError
from utils.stop import (
    EXIT_CLOSED_OUTPUT,
    Stopped,
    first_to_say,
    has_error,
    launch_folder,
    note_error,
    requeue_code,
)

EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count

LOST_CONNECTION = "lost the connection to another process"
ASKED_TO_STOP = "asked to stop; the same command, with resume=auto where it trains, goes on"

# What PyTorch says, in a RuntimeError or a subclass, when the machine fails and not the code: the line to show instead.
# `{}` takes the first group.
_FAILURES = (
    (
        r"(DataLoader worker)",
        "a loader process died, most likely killed for lack of memory; lower data.workers or data.batch_size, "
        "and go on with resume=auto",
    ),
    (
        r"unable to (?:open|write|mmap|allocate) .*?shared memory|(Bus error)",
        "no shared memory left for the loader processes; enlarge /dev/shm or set data.workers=0",
    ),
    (
        r"CUDA out of memory",
        "the GPU has too little memory; lower data.batch_size (and raise solver.grad_accumulation_steps), or set "
        "solver.activation_checkpointing=true",
    ),
    (
        r"(Timed out waiting \d+ ?ms|[Cc]onnection closed by peer|[Cc]onnection reset by peer|Broken pipe"
        r"|Connection was likely closed|NCCL error|Watchdog caught collective|Application timeout caused pair closure"
        r"|failed to recv|recvValue failed|Socket Timeout|Read error|wait timeout)",
        LOST_CONNECTION + " ({}): it ended, or its machine cannot be reached; "
        "add resume=auto to go on from the last checkpoint",
    ),
)


def config_parser(description: str) -> argparse.ArgumentParser:
    """A parser with `--config`, `key=value` overrides, and how much to show."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--config", "-cfg", required=True, metavar="YAML", help="the recipe; docs/config.md explains its keys"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override, as solver.lr=1e-4")
    add_output_options(parser)
    return parser


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """`--quiet`, `--plain` and `--debug`: how much a story shows."""
    parser.add_argument("--quiet", action="store_true", help="show only results, warnings and errors")
    parser.add_argument("--plain", action="store_true", help="no progress bars, as where the output is a file")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


class _Ignored(argparse.Action):
    """An option that is accepted for the sake of users' scripts and has no effect; `ignored` lists those given."""

    def __call__(self, parser, namespace, values, option_string=None):
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


def run_story(story: Callable[[argparse.Namespace], int | None], args: argparse.Namespace) -> int:
    """Run an entry script's story; a `UserError` is printed as `error: ...` and gives exit code 2.

    A loss that is no fault of the code (a killed loader, a lost machine, a full disk) is one line too, and exit code 1.
    With `--debug` the traceback comes instead. Anything else is a fault of ours and keeps its traceback. Where nobody
    reads the output any more (`| head -1`), the end is silent, as of other programs.
    """
    sys.unraisablehook = _drop_failures
    code = None
    try:
        code = story(args) or 0
        sys.stdout.flush()
        return code
    except Stopped:
        if first_to_say(ASKED_TO_STOP):
            print(ASKED_TO_STOP, file=sys.stderr, flush=True)
        return requeue_code()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _drop_closed_output():
            if code is not None and (code or launch_folder()):
                return code  # the story's own; torchrun would take another than 0 for a failure
            note_error()
            return EXIT_CLOSED_OUTPUT
        is_mistake = isinstance(error, UserError)
        line = str(error) if is_mistake else explain_failure(error)
        if line is None or args.debug:
            note_error()
            raise
        _tell(line)
        return EXIT_USER_ERROR if is_mistake else EXIT_FAILURE


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


def _drop_failures(unraisable) -> None:
    """Python's own report of an exception in a destructor, but for failures that are told in one line."""
    if unraisable.exc_value is None or explain_failure(unraisable.exc_value) is None:
        sys.__unraisablehook__(unraisable)


def explain_failure(error: BaseException) -> str | None:
    """The line to show for a failure of the machine; None for anything else."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return f"{error.filename or 'the disk'}: {error.strerror}; free disk space and run again"
    if isinstance(error, BrokenExecutor):
        return str(error)
    if not isinstance(error, (RuntimeError, OSError)):
        return None
    for pattern, line in _FAILURES:
        found = re.search(pattern, str(error))
        if found:
            return line.format(*found.groups())
    return None


def _tell(message: str) -> None:
    """Print an error; of the processes of one launch, the first to meet it speaks for all.

    A connection that is lost because another process has ended with an error of its own is no news.
    """
    if message.startswith(LOST_CONNECTION) and has_error():
        return
    note_error()  # before the others can notice
    rank = os.environ.get("RANK", "0")
    if first_to_say(message):
        print(f"error{'' if rank == '0' else f' (process {rank})'}: {message}", file=sys.stderr, flush=True)
