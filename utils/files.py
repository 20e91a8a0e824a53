"""Atomic writing of files, and checks of paths."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to, which is renamed to `path` when the block ends without an exception.

    The file is flushed before the rename and the folder after it, so a crash leaves either the old or the new file. If
    the block raises, the temporary file is removed; an OSError then names `path`. A pipe or a device is written
    directly.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names are limited to 255 bytes. Several machines may write to the folder.
    short_name = os.fsencode(path.name)[:200].decode("utf-8", "ignore")
    temporary = path.with_name(f".{short_name}.{machine_name()}-{os.getpid()}.tmp")
    try:
        with named_errors(path, temporary):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_path(path.parent)
    finally:
        with contextlib.suppress(OSError):  # the disk may have failed; nothing reads the temporary file
            temporary.unlink(missing_ok=True)


@contextmanager
def named_errors(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """An OSError of the block that names no file, as those of writing, or `temporary`, names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary), temporary):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def machine_name() -> str:
    """The host name, for file names that are unique to this machine."""
    return os.uname().nodename.partition(".")[0][:40]


def this_process() -> str:
    """The process and its machine, for messages of other processes about files that it locked."""
    return f"process {os.getpid()} on {os.uname().nodename}"


def sync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk; otherwise a power failure may empty the file, or undo renames
    in the folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that is writable but not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # not supported by the file system
            raise
    finally:
        os.close(descriptor)


def write_text_atomic(path: str | Path, text: str, errors: str = "strict") -> None:
    """Write a UTF-8 text file by `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def check_writable(
    path: str | Path | None, option: str, is_folder: bool = False, inputs: Iterable[str | Path | None] = ()
) -> None:
    """Check before the work that its result can be written to `path`. Leaves nothing behind.

    Args:
        path: None: nothing is checked.
        option: command-line option, for the message. is_folder: `path` is a folder of results, not a file.
        inputs: what the command reads, if it is given.

    Raises:
        UserError: it is a folder instead of a file or the reverse, one of the inputs, or not writable.
    """
    if path is None:
        return
    path = Path(path)
    try:
        is_dir = path.is_dir()
        if is_dir and not is_folder:
            raise UserError(f"{option} {path}: is a folder; give a file name")
        if is_folder and path.exists() and not is_dir:
            raise UserError(f"{option} {path}: is a file; give a folder")
        if path.is_file() and any(source and os.path.exists(source) and path.samefile(source) for source in inputs):  # noqa: PTH110 - may be a URL
            raise UserError(f"{option} {path}: would replace a file that this command reads; give another name")
        if path.exists() and not is_dir and not path.is_file():
            return  # a pipe or a device, which cannot be tested without writing to it
        folder = path.absolute().parent
        is_sticky = path.is_file() and folder.stat().st_mode & stat.S_ISVTX  # as /tmp: only its owner may replace it
        if is_sticky and os.geteuid() not in (0, folder.stat().st_uid, path.stat().st_uid):
            raise PermissionError(errno.EPERM, "it belongs to another user")
        # Test what would be created first: a file in `path`, or the topmost missing folder.
        name, place = (path / "results", path) if is_dir else (path, path.absolute().parent)
        while not place.exists():
            name, place = place, place.parent
        probe = place / f".{name.name}.{os.getpid()}.tmp"
        with probe.open("xb"):
            pass
        probe.unlink()
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error.strerror}); choose another path") from error


def check_is_file(path: str | Path | None, what: str) -> None:
    """Raise a UserError if a path is given and is not a file. `what`: description of the file, for the message."""
    if path is not None and not Path(path).is_file():
        raise UserError(f"{path}: no such {what}")
