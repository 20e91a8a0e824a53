"""What the tools that compare trainings share: commands in processes of their own, and tables in pages."""

import contextlib
import io
import multiprocessing
import os
import resource
import runpy
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from utils.cli import run_command
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.project_paths import REPOSITORY

ENGINE = ["engine.train", "engine.test", "engine.zeroshot", "engine.frozen"]


class Usage(NamedTuple):
    """The most memory of a process, in bytes, and its seconds of CPU time."""

    peak: int
    cpu: float


def run(script: str, *words: str) -> Usage:
    """Run a command, as run("train.py", "--config", ...), to its end in a process of its own.

    The processes are forks of one that has imported the engine, which takes longer than most of these commands.

    Raises:
        UserError: the command failed; with the last line that it printed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(ENGINE)
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        code, printed, usage = pool.submit(_call, script, words).result()
    if code != 0:
        raise UserError(f"{script} {' '.join(words)} failed: {(printed.splitlines() or ['exit code'])[-1]}")
    return usage


def _call(script: str, words: tuple[str, ...]) -> tuple[int, str, Usage]:
    """In the process of the command: its exit code, what it printed, what it took."""
    os.chdir(REPOSITORY)
    command, printed = runpy.run_path(str(REPOSITORY / script)), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = run_command(command["main"], command["parse_arguments"](list(words)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return code, printed.getvalue().strip(), Usage(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)


def write_after(page: Path, mark: str, text: str) -> None:
    """Put `text`, which begins with `mark`, into a page in place of all from its first `mark` on."""
    assert text.startswith(mark)
    write_text_atomic(page, page.read_text(encoding="utf-8").split(mark)[0] + text)
