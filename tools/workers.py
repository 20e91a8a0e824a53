"""Runs jobs in worker processes, for tools that process a data set."""

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

MAX_NAMES = 8  # maximum number of jobs named in an error


Jobs = Sequence[tuple[str, tuple]]


def run_jobs(function: Callable[..., Any], jobs: Jobs, num_workers: int, done: Callable[[Any], None]) -> None:
    """Call `function` with the arguments of each job in `num_workers` processes, and `done` with each result.

    Args:
        jobs: (name, arguments) of each job; the name is used in errors.
        num_workers: at least 1; 1: run in this process.
        done: called in this process, in the order of completion.

    Raises:
        MachineError: a worker was killed.
        KeyboardInterrupt: on Ctrl-C or SIGTERM; the workers are killed.
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


def _run_in_workers(function: Callable, jobs: Jobs, num_workers: int, done: Callable) -> None:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    executor = ProcessPoolExecutor(num_workers, context, _start_worker)
    left = iter(jobs)
    not_ours = set(multiprocessing.active_children())
    in_hand: dict[Future, str] = {}  # one per worker, so that the file that killed one is known
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
            f"to resume, with fewer --workers if memory ran out{where}"
        ) from error
    except BaseException:
        # A worker may be stuck in a decoder or on a stalled disk; its job is repeated.
        for worker in set(multiprocessing.active_children()) - not_ours:
            worker.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _start_worker() -> None:
    # Ctrl-C is sent to all processes of the terminal, and handled by the main process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # If the main process is killed, its workers would wait for jobs forever.
    end_with_parent(signal.SIGKILL)
    if sys.platform != "linux":
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
