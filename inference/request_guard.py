"""ASGI middleware that limits the duration, size, disk space and queue places of requests to Gradio's server.

Gradio writes an upload to `tmpNAME` in its upload folder, and moves it to a new folder there when it is complete. The
routes that the page does not use are closed, because some of them decode or store requests of any size.
"""

import asyncio
import ipaddress
import json
import re
import shutil
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

API = "/gradio_api/"
UPLOAD, JOIN = "upload", "queue/join"
POSTS = (UPLOAD, JOIN, "cancel", "reset")
"""Routes that the page posts to."""
READS = ("file=", "upload_progress", "queue/data", "heartbeat/", "info", "theme.css", "startup-events", "app_id")
"""Prefixes of the routes that the page reads. Others are closed: deep_link, for example, writes to the disk."""
READING_METHODS = ("GET", "HEAD")
MULTIPART = re.compile(rb"multipart/form-data; *boundary=([A-Za-z0-9_-]{1,70})")
"""Content type of an upload as written by browsers; Gradio might parse other spellings differently."""
MAX_JSON_BYTES = 2**20
"""Limit for requests other than uploads; 400 class names of 200 characters take less."""
MULTIPART_BYTES = 2**12
"""Allowance for the headers around the uploaded file."""
MIN_UPLOAD_BYTES = 2**20
"""Smaller uploads count as this many bytes, because each needs a folder."""
UPLOADS_KEPT = 10
"""Disk quota in uploads of the largest size; the oldest are deleted to make space."""
SAFE_SECONDS = 180
"""Newer uploads are not deleted to make space, because their users may be about to press the button."""
UPLOADS_PER_CLIENT = 3
"""Limit for one client within SAFE_SECONDS, in uploads of the largest size, so that it cannot use up the quota."""
MIN_BYTES_PER_SECOND = 2**16
"""Minimum average rate after `idle_seconds`; slow requests would block the space of other uploads."""
MAX_WAITING_PER_SESSION, MAX_WAITING_PER_CLIENT = 3, 10
"""Limits of queued requests. Several users may share an address, but a client can invent sessions."""

SLOW = (408, "The request was too slow and was cancelled.")
TOO_LARGE = (413, "The request is larger than the limit.")
TOO_MANY = (413, "An upload must be one file.")
NOT_MULTIPART = (415, "An upload must be sent as multipart/form-data.")
NO_SPACE = (507, "The server has no space for more uploads; try again in some minutes.")
UPLOAD_SHARE = (429, "Too many uploads within a few minutes; try again in some minutes.")
QUEUE_SHARE = (429, "Your previous requests are still running; wait until they have finished.")
NO_ROUTE = (404, "Not found.")
LEFT = (400, "The client closed the connection.")  # nobody reads this answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class RequestLimits:
    """Limits of a request.

    Attributes:
        max_bytes: size of an uploaded file.
        seconds, idle_seconds: time until the whole body has arrived, and between two parts of it.
    """

    max_bytes: int
    seconds: float = 600
    idle_seconds: float = 30


@dataclass
class _Upload:
    """An upload in progress, or one that ended within the last SAFE_SECONDS."""

    client: str
    size: int
    remaining: int  # bytes that have not arrived
    ended_at: float | None = None  # time.monotonic(); None: in progress


class Refused(Exception):
    """A request exceeds a limit. `answer`: HTTP status and text of the response."""

    def __init__(self, answer: tuple[int, str]):
        super().__init__(answer[1])
        self.answer = answer


class RequestGuard:
    """Forwards requests to `app`, except those that are too slow, too large or above a quota.

    Args:
        app: the application.
        folder: upload folder. Files that exist already, such as the page's samples, are not deleted.
        count_waiting: returns the number of queued requests of a session.
    """

    def __init__(self, app: App, folder: Path, limits: RequestLimits, count_waiting: Callable[[str], int]):
        self._app, self._folder, self._limits, self._count_waiting = app, folder, limits, count_waiting
        self._own = set(folder.iterdir()) if folder.is_dir() else set()
        self._recent: list[_Upload] = []
        self._written: dict[Path, tuple[float, float]] = {}  # modification time, and the same by time.monotonic()
        self._queued: set[tuple[str, str]] = set()  # (client, session) with queued requests

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = scope["path"].removeprefix(API)
        if scope["method"] in READING_METHODS:
            if scope["path"].startswith(API) and not route.startswith(READS):
                await _answer(send, *NO_ROUTE, as_json=True)
            else:
                await self._app(scope, receive, send)
            return
        try:
            if route not in POSTS:
                raise Refused(NO_ROUTE)
            delimiter = _delimiter(scope) if route == UPLOAD else None
            body = Body(receive, self._limits, self._max_bytes(route), delimiter)
            if route == UPLOAD:
                await self._pass_upload(scope, body, send)
            else:
                await body.read_whole()
                if route == JOIN:
                    self._check_share(_client(scope), body)
                await self._app(scope, body.receive, send)
        except Refused as refused:
            await _answer(send, *refused.answer, as_json=route != UPLOAD)

    def _max_bytes(self, route: str) -> int:
        return self._limits.max_bytes + MULTIPART_BYTES if route == UPLOAD else MAX_JSON_BYTES

    def _check_share(self, client: str, body: "Body") -> None:
        """Raise Refused if the session or the client has too many queued requests. Gradio refuses invalid JSON."""
        try:
            content = json.loads(body.content)
        except (ValueError, RecursionError):  # the latter for deeply nested lists
            return
        session = str(content.get("session_hash") if isinstance(content, dict) else None)
        self._queued = {pair for pair in self._queued if self._count_waiting(pair[1])} | {(client, session)}
        of_client = sum(self._count_waiting(own) for sender, own in self._queued if sender == client)
        if self._count_waiting(session) >= MAX_WAITING_PER_SESSION or of_client >= MAX_WAITING_PER_CLIENT:
            raise Refused(QUEUE_SHARE)

    async def _pass_upload(self, scope: Message, body: "Body", send: Send) -> None:
        size = self._declared_bytes(scope, body.max_bytes)
        upload = _Upload(_client(scope), size, size)
        self._make_space(upload)
        self._recent.append(upload)

        async def receive() -> Message:
            message = await body.receive()
            upload.remaining -= min(len(message.get("body", b"")), upload.remaining)
            return message

        has_answer = False

        async def send_once(message: Message) -> None:
            nonlocal has_answer
            has_answer = True
            await send(message)

        try:
            await self._app(scope, receive, send_once)
        except Exception:
            if body.fault is None:  # otherwise the application failed because the body ended
                raise
        finally:
            upload.size, upload.ended_at = upload.size - upload.remaining, time.monotonic()
            self._ages()
        if body.fault is not None and not has_answer:
            raise Refused(body.fault)

    def _declared_bytes(self, scope: Message, most: int) -> int:
        """Content length of a request; `most` if it has none. Raises Refused if it is larger."""
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if not declared.isdigit():
            return most
        if int(declared) > most:
            raise Refused(TOO_LARGE)
        return int(declared)

    def _make_space(self, new: _Upload) -> None:
        """Delete incomplete uploads, and old ones if `new` then fits into the quota.

        Raises:
            Refused: it does not fit, or its client has uploaded too much.
        """
        now, largest = time.monotonic(), max(self._max_bytes(UPLOAD), MIN_UPLOAD_BYTES)
        self._recent = [up for up in self._recent if up.ended_at is None or now - up.ended_at < SAFE_SECONDS]
        of_client = [max(up.size, MIN_UPLOAD_BYTES) for up in (*self._recent, new) if up.client == new.client]
        if sum(of_client) > UPLOADS_PER_CLIENT * largest:
            raise Refused(UPLOAD_SHARE)
        arriving = [up.remaining for up in self._recent if up.ended_at is None]
        # The file of a slow upload looks old, because the first kilobytes are buffered in memory.
        broken_after = self._limits.seconds if arriving else 2 * self._limits.idle_seconds
        uploads = []  # age in seconds, bytes, path
        total, quota = sum(arriving) + new.size, UPLOADS_KEPT * largest
        for path, age in self._ages().items():
            try:
                if path.is_dir():
                    num_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                    uploads.append((age, max(num_bytes, MIN_UPLOAD_BYTES), path))
                elif age > broken_after:  # the upload was never completed
                    path.unlink()
                else:  # in progress, or aborted a moment ago
                    total += path.stat().st_size
            except FileNotFoundError:
                continue  # Gradio moved or deleted it meanwhile
        total += sum(upload[1] for upload in uploads)
        to_delete = []
        for age, num_bytes, path in sorted(uploads, reverse=True):
            if total <= quota or age < SAFE_SECONDS:
                break
            to_delete.append(path)
            total -= num_bytes
        if total > quota:
            raise Refused(NO_SPACE)
        for path in to_delete:
            shutil.rmtree(path, ignore_errors=True)

    def _ages(self) -> dict[Path, float]:
        """Seconds since each upload in the folder was written to, which count on if the system's clock is set: it is
        asked only once for each modification time."""
        now, written = time.monotonic(), {}
        for path in set(self._folder.iterdir()) - self._own if self._folder.is_dir() else ():
            try:
                modified = path.stat().st_mtime
            except FileNotFoundError:
                continue  # Gradio moved or deleted it meanwhile
            known = self._written.get(path)
            is_known = known is not None and known[0] == modified
            written[path] = known if is_known else (modified, now - max(0.0, time.time() - modified))
        self._written = written
        return {path: now - at for path, (_, at) in written.items()}


class Body:
    """The body of a request, checked against the limits while it arrives.

    Args:
        delimiter: bytes that end each part of an upload; None for other requests.

    Attributes:
        content: the body, after `read_whole`.
        fault: the response if the body ended early, because of a limit or the client; otherwise None.
    """

    def __init__(self, receive: Receive, limits: RequestLimits, max_bytes: int, delimiter: bytes | None):
        self._receive, self._limits, self.max_bytes = receive, limits, max_bytes
        self._begin = time.monotonic()
        self._num_bytes, self._is_whole = 0, False
        self._delimiter, self._num_parts, self._tail = delimiter, 0, b""
        self._kept: list[Message] = []
        self.content = b""
        self.fault: tuple[int, str] | None = None

    async def receive(self) -> Message:
        """The next ASGI message; a disconnect if a limit is exceeded."""
        if self._kept:
            return self._kept.pop()
        if self._is_whole:  # the only message after the body is the disconnect
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._seconds_left())
        except asyncio.TimeoutError:
            self.fault = SLOW
            return {"type": "http.disconnect"}
        if message["type"] == "http.disconnect":
            self.fault = LEFT
            return message
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > self.max_bytes:
            self.fault = TOO_LARGE
        elif self._delimiter is not None and self._count_parts(message.get("body", b""), self._delimiter) > 1:
            self.fault = TOO_MANY
        if self.fault is not None:
            return {"type": "http.disconnect"}
        self._is_whole = not message.get("more_body", False)
        return message

    def _seconds_left(self) -> float:
        """Time until the next part must arrive."""
        limits, passed = self._limits, time.monotonic() - self._begin
        allowed = min(limits.seconds, limits.idle_seconds + self._num_bytes / MIN_BYTES_PER_SECOND)
        return min(limits.idle_seconds, allowed - passed)

    def _count_parts(self, content: bytes, delimiter: bytes) -> int:
        """Number of parts that have ended, including those in the new `content`; messages may split a delimiter."""
        content = self._tail + content
        self._num_parts += content.count(delimiter)
        self._tail = content[-(len(delimiter) - 1) :]
        return self._num_parts

    async def read_whole(self) -> None:
        """Read the whole body into `content`; `receive` then returns it. Raises Refused if a limit is exceeded."""
        parts = []
        while not self._is_whole:
            message = await self.receive()
            if self.fault is not None:
                raise Refused(self.fault)
            parts.append(message.get("body", b""))
        self.content = b"".join(parts)
        self._kept.append({"type": "http.request", "body": self.content, "more_body": False})


def _delimiter(scope: Message) -> bytes:
    """Bytes that end each part of an upload. Raises Refused if it is not a plain multipart request."""
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    found = MULTIPART.fullmatch(kinds[0]) if len(kinds) == 1 else None
    if found is None:
        raise Refused(NOT_MULTIPART)
    return b"\r\n--" + found[1]


def _client(scope: Message) -> str:
    """The client's address; for IPv6 its first 64 bits, because a connection usually has a whole /64 network."""
    host = (scope.get("client") or ("",))[0]
    try:
        return ipaddress.ip_address(host).exploded[:19]
    except ValueError:  # proxies may send names
        return host


async def _answer(send: Send, status: int, text: str, as_json: bool) -> None:
    """Send a response whose text the page shows: for uploads the body, for other requests `detail` of the JSON."""
    kind, body = ("application/json", json.dumps({"detail": text})) if as_json else ("text/plain", text)
    headers = [(b"content-type", f"{kind}; charset=utf-8".encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
