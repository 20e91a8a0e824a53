"""Runs jobs in worker processes, for the scripts that process a data set."""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from utils.errors import MachineError
from utils.stop import end_with_parent

MAX_NAMES = 8  # jobs that an error names


def run_jobs(
    function: Callable[..., Any], jobs: Sequence[tuple[str, tuple]], num_workers: int, done: Callable[[Any], None]
) -> None:
    """Call `function` with each job's arguments, here or in `num_workers` processes, and `done` with each result.

    Args:
        jobs: (name, arguments) each; the name is what an error calls the job.
        num_workers: at least 1; 1: this process.
        done: called in this process, in the order in which the results come.

    Raises:
        MachineError: a worker died.
        KeyboardInterrupt: on Ctrl-C, and on SIGTERM too; the workers are killed.
    """
    old = signal.signal(signal.SIGTERM, _interrupt)
    try:
        if num_workers == 1:
            for _, arguments in jobs:
                done(function(*arguments))
        elif jobs:
            _run_in_workers(function, jobs, min(num_workers, len(jobs)), done)
    finally:
        signal.signal(signal.SIGTERM, old)


def _run_in_workers(function: Callable, jobs: Sequence[tuple[str, tuple]], num_workers: int, done: Callable) -> None:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    executor = ProcessPoolExecutor(num_workers, context, _start_worker)
    left = iter(jobs)
    not_ours = set(multiprocessing.active_children())
    in_hand: dict[Future, str] = {}  # one a worker, so that the file at which one died is known
    try:
        while True:
            for name, arguments in itertools.islice(left, num_workers - len(in_hand)):
                in_hand[executor.submit(function, *arguments)] = name
            if not in_hand:
                return
            finished = wait(in_hand, return_when=FIRST_COMPLETED).done
            for future in sorted(finished, key=lambda future: future.exception() is not None):
                done(future.result())
                del in_hand[future]
    except BrokenProcessPool as error:
        names = list(in_hand.values())
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        where = f"; being processed: {', '.join(names[:MAX_NAMES])}{more}" if names else ""
        raise MachineError(
            "a worker process was killed, by lack of memory or a file that crashes the decoder; run the same command "
            f"to resume, with fewer --workers if memory is short{where}"
        ) from error
    except BaseException:
        # A worker may be stuck in a decoder or at a stalled disk; its job is done again.
        for worker in set(multiprocessing.active_children()) - not_ours:
            worker.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal: the main process ends the run
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A main process that is killed can tell nobody: its workers would wait for jobs for ever.
    end_with_parent(signal.SIGKILL)
    if sys.platform != "linux":
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
