"""Decodes untrusted videos in child processes with limits on memory, CPU time and wall time.

If a malicious file exploits FFmpeg, only the child is affected. It sends JSON lines and pixels, which are not
unpickled. Children are forked from a server process that has already imported PyTorch, and start within milliseconds.

Legend: T frames, C=3 channels, S side of a frame in pixels.
"""

import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from inference.upload import Limits, check_upload
from inference.windows import Window, WindowReader
from utils.errors import UserError

MAX_CHILD_MEGABYTES = 2048
"""Memory limit of a child, in addition to its memory at the start; two frames of the maximum size take 400."""
_MAX_MESSAGE_BYTES = 2**30
_LENGTH_BYTES = 8  # before each message, its length
_READ_BYTES = 2**20


@dataclass(frozen=True)
class DecodingJob:
    """A video file or folder of frames for a child to split into windows, see `WindowReader.windows`."""

    reader: WindowReader
    source: str
    window: float | None = None
    stride: float | None = None
    fps: float = 25
    limits: Limits | None = None  # limits of an upload; None: the file is not checked
    max_windows: int | None = None  # None: unlimited

    def run(self, send: "_Sender") -> None:
        """Send the number of windows, then each window. Raises errors like the reader and `check_upload`."""
        name = Path(self.source).name
        if self.limits is not None:
            check_upload(self.source, self.limits)
        num_windows = self.reader.num_windows(self.source, self.window, self.stride, fps=self.fps) or 1
        if self.max_windows is not None and num_windows > self.max_windows:
            length = "" if self.window is None else f" of {self.window:g} s"
            raise UserError(
                f"{num_windows} windows{length}, more than the limit of {self.max_windows}; use longer windows"
            )
        send.text({"num_windows": num_windows})
        for count, window in enumerate(self.reader.windows(self.source, self.window, self.stride, fps=self.fps)):
            if self.limits is not None and window.end > self.limits.max_seconds + 1:
                raise UserError(f"{name}: is longer than its header says, and than the limit; shorten it")
            if self.max_windows is not None and count > self.max_windows:
                raise UserError(f"{name}: has more windows than its header says; use longer windows")
            send.window(window)
        send.text({"is_complete": True})


def start_server() -> None:
    """Start the process that children are forked from, if it is not running. Returns before its imports are
    finished."""
    multiprocessing.set_forkserver_preload([__name__])
    forkserver.ensure_running()


class IsolatedVideo:
    """The windows of a file, decoded in a child process. A context manager that ends the child.

    Args:
        seconds: time limit until the last window is read.
        megabytes: memory limit of the child.

    Attributes:
        num_windows: number of windows according to the packets of the file.

    Raises:
        UserError: the file is invalid, or its decoding reached a limit.
    """

    def __init__(self, job: DecodingJob, seconds: float, megabytes: int = MAX_CHILD_MEGABYTES):
        self._name, self._seconds = Path(job.source).name, seconds
        self._ends_at = time.monotonic() + seconds
        start_server()
        context = multiprocessing.get_context("forkserver")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_decode, args=(job, sender, seconds, megabytes), daemon=True)
        self._process.start()
        sender.close()
        try:
            self.num_windows = int(self._text()["num_windows"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "IsolatedVideo":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.join()
        self._receiver.close()

    def windows(self) -> Iterator[Window]:
        """The windows in order of time. Raises the errors of the class."""
        while "is_complete" not in (about := self._text()):
            pixels = np.frombuffer(self._bytes(), np.uint8).reshape(about["shape"])
            yield Window(about["start"], about["end"], torch.from_numpy(pixels.copy()))

    def _text(self) -> dict[str, Any]:
        content = json.loads(self._bytes())
        if "error" in content:
            raise UserError(content["error"])
        if "traceback" in content:
            raise RuntimeError(f"{self._name}: the decoding process failed:\n{content['traceback']}")
        return content

    def _bytes(self) -> bytearray:
        """The next message of the child."""
        size = int.from_bytes(self._read(_LENGTH_BYTES), "big")
        if size > _MAX_MESSAGE_BYTES:
            raise UserError(f"{self._name}: its decoding process sent {size} bytes; the file is malicious")
        return self._read(size)

    def _read(self, size: int) -> bytearray:
        """Receive so many bytes. `Connection.recv_bytes` would wait forever for the second half of a message."""
        content = bytearray()
        while len(content) < size:
            left = self._ends_at - time.monotonic()
            if left <= 0 or not self._receiver.poll(left):
                raise self._too_long()
            part = os.read(self._receiver.fileno(), min(size - len(content), _READ_BYTES))
            if not part:
                raise self._ended()
            content += part
        return content

    def _too_long(self) -> UserError:
        return UserError(
            f"{self._name}: took more than {self._seconds:g} s; use a shorter or smaller video, or longer windows"
        )

    def _ended(self) -> UserError:
        """The error for a child that closed the pipe without a final message."""
        self._process.join(max(0.0, self._ends_at - time.monotonic()))
        code = self._process.exitcode
        if code is None:
            return self._too_long()
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return UserError(
                f"{self._name}: its decoding was stopped after {self._seconds:g} s of CPU time or for lack of "
                "memory; use a shorter or smaller video"
            )
        return UserError(
            f"{self._name}: its decoding process exited with code {code}; the file is corrupted or malicious"
        )


class _Sender:
    """The child's end of the pipe."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def text(self, content: dict[str, Any]) -> None:
        self._bytes(json.dumps(content).encode())

    def window(self, window: Window) -> None:
        self.text({"start": window.start, "end": window.end, "shape": list(window.clip.shape)})
        self._bytes(window.clip.contiguous().numpy().tobytes())

    def _bytes(self, content: bytes) -> None:
        self._file.write(len(content).to_bytes(_LENGTH_BYTES, "big"))
        self._file.write(content)
        self._file.flush()


def _decode(job: DecodingJob, connection: Connection, seconds: float, megabytes: int) -> None:
    """The child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent, which ends this process
    _limit(seconds, megabytes)
    torch.set_num_threads(1)
    with suppress(BrokenPipeError), open(connection.fileno(), "wb", closefd=False) as file:  # the parent may leave
        send = _Sender(file)
        try:
            job.run(send)
        except UserError as error:
            send.text({"error": str(error)})
        except Exception as error:
            # PyTorch's error: "DefaultCPUAllocator: can't allocate memory".
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                message = f"{Path(job.source).name}: needs more than {megabytes} MB of memory; make its frames smaller"
                send.text({"error": message})
            else:
                send.text({"traceback": traceback.format_exc()})


def _limit(seconds: float, megabytes: int) -> None:
    """Set limits that also apply if the parent is killed. The memory limit works on Linux only."""
    cpu_seconds = math.ceil(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        used = int(status.partition("VmData:")[2].split()[0]) * 1024
        bound = used + megabytes * 10**6
        resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
