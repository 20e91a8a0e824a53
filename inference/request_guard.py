"""Bounds on what clients send: time, bytes, space on the disk, places in the queue. A middleware of ASGI, the protocol
of Gradio's server.

Gradio writes an upload to `tmpNAME` in its folder of uploads, and moves it to a folder of its own there once it is
complete. Its routes that the page does not use are closed: some decode or keep what is sent to them, without a bound.
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
"""Routes to which the page sends."""
READS = ("file=", "upload_progress", "queue/data", "heartbeat/", "info", "theme.css", "startup-events", "app_id")
"""Beginnings of the routes from which it reads; among the others, deep_link writes to the disk."""
READING_METHODS = ("GET", "HEAD")
MULTIPART = re.compile(rb"multipart/form-data; *boundary=([A-Za-z0-9_-]{1,70})")
"""The type of an upload, as browsers write it: other spellings might be read differently by Gradio."""
MAX_JSON_BYTES = 2**20
"""Of any other request than an upload; 400 class names of 200 characters are less."""
MULTIPART_BYTES = 2**12
"""Around the file of an upload."""
MIN_UPLOAD_BYTES = 2**20
"""That an upload counts at least: many small ones cost folders."""
UPLOADS_KEPT = 10
"""Of the largest size, on the disk at a time; the oldest make space for new ones."""
SAFE_SECONDS = 180
"""An upload that is younger is not deleted to make space: its user may be about to press the button."""
UPLOADS_OF_CLIENT = 3
"""Of the largest size, that one client sends within SAFE_SECONDS, so that no client fills the space of others."""
MIN_BYTES_A_SECOND = 2**16
"""Of a request, after its first pause: a slow one holds the space of an upload."""
MAX_WAITING_OF_SESSION = 3
"""Requests of one session that wait for their turn."""

SLOW = (408, "The request came too slowly and was ended.")
TOO_LARGE = (413, "The request is larger than the limit.")
TOO_MANY = (413, "An upload must be one file.")
NOT_MULTIPART = (415, "An upload must be sent as multipart/form-data.")
NO_SPACE = (507, "The server has no space for more uploads; try again in some minutes.")
UPLOAD_SHARE = (429, "You have uploaded much within a few minutes; wait some minutes.")
QUEUE_SHARE = (429, "Your last requests are not done yet; wait for them.")
NO_ROUTE = (404, "Not found.")
LEFT = (400, "The request was broken off.")  # nobody reads this answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class RequestLimits:
    """Of one request.

    Attributes:
        max_bytes: of an uploaded file.
        seconds, idle_seconds: until its body is there, and between two parts of it.
    """

    max_bytes: int
    seconds: float = 600
    idle_seconds: float = 30


@dataclass
class _Upload:
    """An upload that is arriving, or has arrived within the last SAFE_SECONDS."""

    client: str
    size: int
    left: int  # bytes to come
    ended_at: float | None = None  # time.time(); None: it is arriving


class Refused(Exception):
    """A request that is over a limit: status and text of the answer."""

    def __init__(self, answer: tuple[int, str]):
        super().__init__(answer[1])
        self.answer = answer


class RequestGuard:
    """Passes requests on; ends those that are slow or too large, and refuses those for which there is no space.

    Args:
        app: what answers requests.
        folder: of uploads. What lies there now, the page's own samples, is not deleted.
        count_waiting: how many requests of a session wait in the queue.
    """

    def __init__(self, app: App, folder: Path, limits: RequestLimits, count_waiting: Callable[[str], int]):
        self._app, self._folder, self._limits, self._count_waiting = app, folder, limits, count_waiting
        self._own = set(folder.iterdir()) if folder.is_dir() else set()
        self._recent: list[_Upload] = []

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
                self._check_share(route, body)
                await self._app(scope, body.receive, send)
        except Refused as refused:
            await _answer(send, *refused.answer, as_json=route != UPLOAD)

    def _max_bytes(self, route: str) -> int:
        return self._limits.max_bytes + MULTIPART_BYTES if route == UPLOAD else MAX_JSON_BYTES

    def _check_share(self, route: str, body: "Body") -> None:
        """Raise Refused where the session has its share of the queue; what is not valid JSON is Gradio's to refuse."""
        if route != JOIN:
            return
        try:
            content = json.loads(body.content)
        except (ValueError, RecursionError):  # the latter for deeply nested lists
            return
        session = content.get("session_hash") if isinstance(content, dict) else None
        if self._count_waiting(str(session)) >= MAX_WAITING_OF_SESSION:
            raise Refused(QUEUE_SHARE)

    async def _pass_upload(self, scope: Message, body: "Body", send: Send) -> None:
        size = self._declared_bytes(scope, body.max_bytes)
        upload = _Upload(_client(scope), size, size)
        self._make_space(upload)
        self._recent.append(upload)

        async def receive() -> Message:
            message = await body.receive()
            upload.left -= min(len(message.get("body", b"")), upload.left)
            return message

        has_answer = False

        async def send_once(message: Message) -> None:
            nonlocal has_answer
            has_answer = True
            await send(message)

        try:
            await self._app(scope, receive, send_once)
        except Exception:
            if body.fault is None:  # else it is the application's error on the end of the body
                raise
        finally:
            upload.size, upload.ended_at = upload.size - upload.left, time.time()
        if body.fault is not None and not has_answer:
            raise Refused(body.fault)

    def _declared_bytes(self, scope: Message, most: int) -> int:
        """Of the request; the most where it does not say. Raises Refused where that is too much."""
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if not declared.isdigit():
            return most
        if int(declared) > most:
            raise Refused(TOO_LARGE)
        return int(declared)

    def _make_space(self, new: _Upload) -> None:
        """Delete broken uploads, and old ones if `new` is then within the quota. Raises Refused if it is not, or if
        its client has its share."""
        now, largest = time.time(), max(self._max_bytes(UPLOAD), MIN_UPLOAD_BYTES)
        self._recent = [one for one in self._recent if one.ended_at is None or now - one.ended_at < SAFE_SECONDS]
        of_client = [max(one.size, MIN_UPLOAD_BYTES) for one in (*self._recent, new) if one.client == new.client]
        if sum(of_client) > UPLOADS_OF_CLIENT * largest:
            raise Refused(UPLOAD_SHARE)
        arriving = [one.left for one in self._recent if one.ended_at is None]
        # A file that is arriving slowly looks old: what arrives is kept in memory until some kilobytes are there.
        broken_after = self._limits.seconds if arriving else 2 * self._limits.idle_seconds
        uploads = []  # age in seconds, bytes, path
        total, quota = sum(arriving) + new.size, UPLOADS_KEPT * largest
        for path in set(self._folder.iterdir()) - self._own if self._folder.is_dir() else ():
            try:
                age = now - path.stat().st_mtime
                if path.is_dir():
                    num_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                    uploads.append((age, max(num_bytes, MIN_UPLOAD_BYTES), path))
                elif age > broken_after:  # it was never completed
                    path.unlink()
                else:  # it is arriving, or it broke off a moment ago
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


class Body:
    """A request's body, within its limits.

    Args:
        delimiter: what ends a part of an upload; None for other requests.

    Attributes:
        content: what `read_whole` has read.
        fault: the answer where it ended before it was whole, by a limit or by the client.
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
        """The next message of ASGI; at a limit a made-up disconnect."""
        if self._kept:
            return self._kept.pop()
        if self._is_whole:  # after its body, what is waited for is the client's leaving
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
        """Until the next part has to be there."""
        limits, passed = self._limits, time.monotonic() - self._begin
        allowed = min(limits.seconds, limits.idle_seconds + self._num_bytes / MIN_BYTES_A_SECOND)
        return min(limits.idle_seconds, allowed - passed)

    def _count_parts(self, content: bytes, delimiter: bytes) -> int:
        """That have ended so far, where `content` arrived last; a delimiter may be split over messages."""
        content = self._tail + content
        self._num_parts += content.count(delimiter)
        self._tail = content[-(len(delimiter) - 1) :]
        return self._num_parts

    async def read_whole(self) -> None:
        """Read `content`, which `receive` then gives at once. Raises Refused at a limit."""
        parts = []
        while not self._is_whole:
            message = await self.receive()
            if self.fault is not None:
                raise Refused(self.fault)
            parts.append(message.get("body", b""))
        self.content = b"".join(parts)
        self._kept.append({"type": "http.request", "body": self.content, "more_body": False})


def _delimiter(scope: Message) -> bytes:
    """What ends each part of an upload. Raises Refused where it is not a plain multipart request."""
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    found = MULTIPART.fullmatch(kinds[0]) if len(kinds) == 1 else None
    if found is None:
        raise Refused(NOT_MULTIPART)
    return b"\r\n--" + found[1]


def _client(scope: Message) -> str:
    """The client's address; of IPv6 the first half, since one connection has all addresses that begin with it."""
    host = (scope.get("client") or ("",))[0]
    try:
        return ipaddress.ip_address(host).exploded[:19]
    except ValueError:  # a proxy may give names
        return host


async def _answer(send: Send, status: int, text: str, as_json: bool) -> None:
    """In the form of which the page shows the text: that of an upload is shown as it is, and `detail` of others."""
    kind, body = ("application/json", json.dumps({"detail": text})) if as_json else ("text/plain", text)
    headers = [(b"content-type", f"{kind}; charset=utf-8".encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
