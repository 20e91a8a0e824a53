"""Locks of folders that one command at a time may write to."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError
from utils.files import check_writable, named_errors, sync_path, this_process

LOCK = ".lock"
log = logging.getLogger(__name__)


@contextmanager
def folder_lock(folder: Path | None, option: str) -> Iterator[None]:
    """Create a folder if necessary and lock it until the block ends; None: nothing is locked.

    A POSIX record lock, which the kernel releases when the process ends for any reason, and which forked loader
    processes do not inherit. On NFS and Lustre it works between machines if the mount supports locks. If the folder is
    empty at the end, it is removed.

    Args:
        option: config key or command-line option of the folder, for messages.

    Raises:
        UserError: the lock is held by another process, named in the message, or the folder cannot be written.
    """
    if folder is None:
        yield
        return
    check_writable(folder, option, is_folder=True)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in made:
        sync_path(each.parent)
    file = _lock(folder / LOCK, option)
    try:
        with named_errors(folder / LOCK):
            os.truncate(file, 0)
            os.write(file, this_process().encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder is not empty, or was already removed
            (folder / LOCK).unlink()  # still locked, so that no other process can have locked this file
            for each in made:
                each.rmdir()
        os.close(file)


def _lock(path: Path, option: str) -> int:
    """Lock the file at `path`; returns its file descriptor."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, depending on the file system
            _refuse(path, file, option)
        except OSError as error:
            log.warning(
                f"WARNING: {path.parent} cannot be locked ({error.strerror}): do not start a second run in this folder"
            )
        # The file may have been removed by a run that ended in the meantime.
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file)):
            break
        os.close(file)
    return file


def _refuse(path: Path, file: int, option: str) -> None:
    owner = os.read(file, 500).decode(errors="replace") or "another process"
    os.close(file)
    raise UserError(f"{option}: {path.parent} is in use by {owner}; wait until that run ends, or choose another folder")
