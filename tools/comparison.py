"""For `tools.compare_variants`: runs commands in separate processes, and updates tables in pages."""

import contextlib
import io
import multiprocessing
import os
import resource
import runpy
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from utils.cli import run_command
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.project_paths import REPOSITORY

ENGINE = ["engine.train", "engine.test", "engine.zeroshot", "engine.frozen"]
# Keys of the training that a test of the checkpoint needs.
SHARED_KEYS = ("network.", "components.", "solver.loss_type", "data.num_segments")


def of_test(overrides: Sequence[str]) -> list[str]:
    """The training overrides that must also be passed at test time."""
    return [override for override in overrides if override.startswith(SHARED_KEYS)]


class Usage(NamedTuple):
    """Peak memory of a process in bytes, and its CPU time in seconds."""

    peak: int
    cpu: float


def run(script: str, *words: str) -> Usage:
    """Run a command in a separate process, for example run("train.py", "--config", ...).

    Processes are forked from one that has already imported the engine, because the import takes longer than most of
    these commands.

    Raises:
        UserError: the command failed, with the last line of its output.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(ENGINE)
    answers, answer = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(answer, script, words))
    process.start()
    answer.close()  # so that the pipe ends when the process exits
    try:
        code, printed, usage = answers.recv()
    except EOFError:
        code, printed, usage = 1, "its process ended early", Usage(0, 0.0)
    process.join()
    if code != 0:
        reason = printed.splitlines()[-1] if printed else f"exit code {code}"
        raise UserError(f"{script} {' '.join(words)} failed: {reason}")
    return usage


def _call(answer: Connection, script: str, words: tuple[str, ...]) -> None:
    """In the child process: run the command, and send its exit code, output and usage."""
    os.chdir(REPOSITORY)
    command = runpy.run_path(str(REPOSITORY / script))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = run_command(command["main"], command["parse_arguments"](list(words)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    with contextlib.suppress(BrokenPipeError):  # the comparison was stopped
        answer.send((code, printed.getvalue().strip(), Usage(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)))


def write_after(page: Path, mark: str, text: str) -> None:
    """Replace everything from the first `mark` in a page with `text`, which begins with `mark`."""
    assert text.startswith(mark)
    write_text_atomic(page, page.read_text(encoding="utf-8").split(mark)[0] + text)
