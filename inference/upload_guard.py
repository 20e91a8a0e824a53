"""Bounds on uploads while they arrive: time, and space on the disk. A middleware of ASGI, which Gradio's server speaks.

Gradio writes an upload to `tmpNAME` in its folder of uploads, and moves it to a folder of its own there once it is
complete.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

MAX_UPLOAD_SECONDS, MAX_IDLE_SECONDS = 600, 30
UPLOADS_KEPT = 10
"""Of the largest size, on the disk at a time; the oldest make space for new ones."""
SAFE_SECONDS = 180
"""An upload that is younger is not deleted to make space: its user may be about to press the button."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class UploadGuard:
    """Passes requests on; ends uploads that are slow, and refuses those for which there is no space.

    Args:
        folder: of uploads. What lies there now, the page's own samples, is not deleted.
        seconds, idle_seconds: for one upload, and between two of its parts.
    """

    def __init__(
        self,
        app: App,
        folder: Path,
        max_bytes: int,
        seconds: float = MAX_UPLOAD_SECONDS,
        idle: float = MAX_IDLE_SECONDS,
    ):
        self._app, self._folder, self._max_bytes = app, folder, max_bytes
        self._seconds, self._idle_seconds = seconds, idle
        self._own = set(folder.iterdir()) if folder.is_dir() else set()
        self._arriving_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/upload"):
            await self._app(scope, receive, send)
            return
        size = self._declared_bytes(scope)
        if not self._make_room(size):
            await _answer(send, 507, "The server has no space for more uploads; try again in some minutes.")
            return
        self._arriving_bytes += size
        try:
            await self._pass_on(scope, receive, send)
        finally:
            self._arriving_bytes -= size

    async def _pass_on(self, scope: Message, receive: Receive, send: Send) -> None:
        ends_at = time.monotonic() + self._seconds
        is_late = has_answer = is_whole = False

        async def receive_in_time() -> Message:
            nonlocal is_late, is_whole
            if is_whole:  # after its body, what is waited for is the client's leaving
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), min(self._idle_seconds, ends_at - time.monotonic()))
            except asyncio.TimeoutError:
                is_late = True
                return {"type": "http.disconnect"}
            is_whole = not message.get("more_body", False)
            return message

        async def send_once(message: Message) -> None:
            nonlocal has_answer
            has_answer = True
            await send(message)

        try:
            await self._app(scope, receive_in_time, send_once)
        except Exception:
            if not is_late:  # else it is the application's error on the disconnect that is made up above
                raise
        if is_late and not has_answer:
            await _answer(send, 408, "The upload was too slow and was ended.")

    def _declared_bytes(self, scope: Message) -> int:
        """Of the request, as far as it says; what says nothing, or too much, is ended at the limit."""
        declared = dict(scope["headers"]).get(b"content-length", b"")
        return min(int(declared), self._max_bytes) if declared.isdigit() else self._max_bytes

    def _make_room(self, size: int) -> bool:
        """Delete broken uploads, and old ones until `size` more bytes are within the quota; else False."""
        now, quota = time.time(), UPLOADS_KEPT * self._max_bytes
        uploads = []  # age in seconds, bytes, path
        for path in set(self._folder.iterdir()) - self._own if self._folder.is_dir() else ():
            try:
                age = now - path.stat().st_mtime
                if path.is_file() and age > 2 * self._idle_seconds:  # it was never completed
                    path.unlink()
                elif path.is_dir():  # else it is arriving
                    uploads.append((age, sum(file.stat().st_size for file in path.iterdir()), path))
            except FileNotFoundError:
                continue  # Gradio moved or deleted it meanwhile
        total = sum(upload[1] for upload in uploads) + self._arriving_bytes + size
        for age, num_bytes, path in sorted(uploads, reverse=True):
            if total <= quota or age < SAFE_SECONDS:
                break
            shutil.rmtree(path, ignore_errors=True)
            total -= num_bytes
        return total <= quota


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
