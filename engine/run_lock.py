"""Lock of a run folder."""

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError
from utils.files import check_writable, sync_path

LOCK = ".lock"
log = logging.getLogger(__name__)


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Create `run_dir` if necessary and lock it until the block ends.

    A POSIX record lock, which the kernel releases when the process ends for any reason, and which forked loader
    processes do not inherit. On NFS and Lustre it works between machines if the mount supports locks. If the folder is
    empty at the end, it is removed. Raises a UserError if the lock is held by another process, named in the message, or
    the folder cannot be written.
    """
    check_writable(run_dir, "logging.run_dir", is_folder=True)
    made = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    run_dir.mkdir(parents=True, exist_ok=True)
    for folder in made:
        sync_path(folder.parent)
    file = _lock(run_dir / LOCK)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder is not empty, or was already removed
            (run_dir / LOCK).unlink()  # still locked, so that no other process can have locked this file
            for folder in made:
                folder.rmdir()
        os.close(file)


def _lock(path: Path) -> int:
    """Lock the file at `path`; returns its file descriptor."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, depending on the file system
            _refuse(path, file)
        except OSError as error:
            log.warning(
                f"WARNING: {path.parent} cannot be locked ({error.strerror}): do not start a second run in this folder"
            )
        # The file may have been removed by a run that ended in the meantime.
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file)):
            break
        os.close(file)
    os.truncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return file


def _refuse(path: Path, file: int) -> None:
    owner = os.read(file, 500).decode(errors="replace") or "another process"
    os.close(file)
    raise UserError(
        f"logging.run_dir: {path.parent} is in use by {owner}; wait until that run ends, or choose another folder"
    )
