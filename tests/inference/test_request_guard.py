"""Limits of requests: time, bytes, disk space and places in the queue."""

import asyncio
import json
import os
import time

import pytest

from inference.request_guard import (
    MAX_JSON_BYTES,
    MAX_WAITING_PER_CLIENT,
    MAX_WAITING_PER_SESSION,
    MIN_UPLOAD_BYTES,
    MULTIPART_BYTES,
    SAFE_SECONDS,
    UPLOADS_KEPT,
    UPLOADS_PER_CLIENT,
    RequestGuard,
    RequestLimits,
    _Upload,
)

MAX_BYTES = MIN_UPLOAD_BYTES + 1000
LARGEST = MAX_BYTES + MULTIPART_BYTES
MULTIPART = b"multipart/form-data; boundary=x"


async def receiving_app(scope, receive, send):
    """Takes a request's body, as Gradio does, and answers how much it was."""
    size, has_more = 0, True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client left")
        size, has_more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def guard_of(app, folder, seconds=60.0, idle=60.0, waiting=0):
    return RequestGuard(app, folder, RequestLimits(MAX_BYTES, seconds, idle), lambda session: waiting)


def post(guard, parts, path="/gradio_api/upload", declared=None, method="POST", kind=MULTIPART, client="10.0.0.1"):
    """Status and text of the answer to a body that arrives as (seconds of waiting, bytes or None: it breaks off)."""
    answer, parts = [], list(parts)

    async def receive():
        seconds, content = parts.pop(0)
        await asyncio.sleep(seconds)
        if content is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": content, "more_body": bool(parts)}

    async def send(message):
        answer.append(message)

    headers = [(b"content-type", kind)]
    headers += [] if declared is None else [(b"content-length", str(declared).encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": (client, 4000)}
    asyncio.run(guard(scope, receive, send))
    return answer[0]["status"], answer[1]["body"].decode()


ROUTES = ("/gradio_api/upload", "/gradio_api/queue/join")


@pytest.mark.parametrize("path", ROUTES)
def test_a_request_in_time_passes(tmp_path, path):
    assert post(guard_of(receiving_app, tmp_path), [(0, b"ab"), (0.01, b"c")], path, declared=3) == (200, "3")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("seconds", "idle", "slow"),
    [
        (60, 0.05, [(0, b"a"), (10, b"b")]),
        (0.05, 60, [(0.03, b"a")] * 5),
        (60, 0.2, [(0.05, b"a")] * 100),  # too few bytes a second
    ],
    ids=["pauses", "takes long", "trickles"],
)
def test_a_slow_request_ends(tmp_path, seconds, idle, slow, path):
    guard = guard_of(receiving_app, tmp_path, seconds, idle)
    begin = time.monotonic()
    status, text = post(guard, slow, path)
    assert status == 408 and "too slow" in text and time.monotonic() - begin < 5


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("is_declared", [True, False])
def test_requests_that_are_too_large_are_refused(tmp_path, path, is_declared):
    """All files of a request together: Gradio bounds each of up to 1000, and JSON not at all."""
    most = LARGEST if path.endswith("upload") else MAX_JSON_BYTES
    guard = guard_of(receiving_app, tmp_path)
    parts = [(0, bytes(most // 4))] * 4
    assert post(guard, parts, path, 4 * (most // 4) if is_declared else None) == (200, str(4 * (most // 4)))
    status, text = post(guard, [*parts, (0, bytes(5))], path, most + 5 if is_declared else None)
    assert status == 413 and "larger than the limit" in text


@pytest.mark.parametrize("path", ROUTES)
def test_a_client_may_disconnect(tmp_path, path):
    assert post(guard_of(receiving_app, tmp_path), [(0, b"a"), (0, None)], path)[0] == 400


@pytest.mark.parametrize("route", ["process_recording", "component_server", "run/answer", "call/answer", "upload/"])
def test_routes_that_the_page_does_not_use_are_closed(tmp_path, route):
    guard = guard_of(receiving_app, tmp_path)
    assert post(guard, [(0, b"")], f"/gradio_api/{route}")[0] == 404
    assert post(guard, [(0, b"")], f"/gradio_api/{route}", method="GET")[0] == 404


def test_files_that_the_page_needs_can_be_read(tmp_path):
    """deep_link writes what is in a session to the disk."""
    guard = guard_of(receiving_app, tmp_path)
    for path, status in (
        ("/", 200), ("/assets/index.js", 200), ("/gradio_api/queue/data", 200), ("/gradio_api/file=/a/b.mp4", 200),
        ("/gradio_api/deep_link", 404), ("/gradio_api/vibe-code", 404),
    ):  # fmt: skip
        assert post(guard, [(0, b"")], path, method="GET")[0] == status, path


@pytest.mark.parametrize("size", [1, 7, 10000])
def test_an_upload_is_one_file(tmp_path, size):
    """Many tiny files would each take a folder, and so the space of others; for any division into messages."""
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n01\r\n'
    guard = guard_of(receiving_app, tmp_path)
    for num_files, expected in ((1, 200), (2, 413), (50, 413)):
        body = part * num_files + b"--x--\r\n"
        status, text = post(guard, [(0, body[start : start + size]) for start in range(0, len(body), size)])
        assert status == expected and (status == 200 or text == "An upload must be one file.")
    for kind in (b"text/plain", b"multipart/form-data; boundary*=utf-8''x", b"multipart/form-data; a=b; boundary=x"):
        assert post(guard, [(0, b"")], kind=kind)[0] == 415


def join(guard, session, client="10.0.0.1"):
    """Status and text of the response to a request for a place in the queue."""
    body = json.dumps({"session_hash": session}).encode()
    return post(guard, [(0, body[:5]), (0, body[5:])], "/gradio_api/queue/join", client=client)


def test_queued_requests_per_session_are_limited(tmp_path):
    waiting = {"greedy": MAX_WAITING_PER_SESSION}
    guard = RequestGuard(receiving_app, tmp_path, RequestLimits(MAX_BYTES), lambda session: waiting.get(session, 0))
    status, text = join(guard, "greedy")
    assert status == 429 and json.loads(text)["detail"].startswith("Your previous requests are still running")
    assert join(guard, "other")[0] == 200
    for body in (b"no JSON", b"[" * 100000):  # Gradio refuses them
        assert post(guard, [(0, body)], "/gradio_api/queue/join") == (200, str(len(body)))


def test_a_client_that_invents_sessions_has_its_share_of_the_queue(tmp_path):
    waiting = {}
    guard = RequestGuard(receiving_app, tmp_path, RequestLimits(MAX_BYTES), lambda session: waiting.get(session, 0))
    for number in range(MAX_WAITING_PER_CLIENT):
        assert join(guard, f"session {number}")[0] == 200
        waiting[f"session {number}"] = 1
    assert join(guard, "one more")[0] == 429
    assert join(guard, "one more", client="10.0.0.2")[0] == 200
    del waiting["session 0"]  # it has its result
    assert join(guard, "one more")[0] == 200
    waiting.clear()
    assert join(guard, "the last")[0] == 200 and len(guard._queued) == 1


def test_an_error_of_the_page_stays_an_error(tmp_path):
    async def failing_app(scope, receive, send):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        post(guard_of(failing_app, tmp_path), [(0, b"")])


def put(folder, name, size, age):
    (folder / name).mkdir()
    (folder / name / "video.mp4").write_bytes(bytes(size))
    os.utime(folder / name, (time.time() - age,) * 2)


def test_old_uploads_make_space(tmp_path):
    put(tmp_path, "sample", LARGEST, 9000)
    guard = guard_of(receiving_app, tmp_path)
    for number in range(UPLOADS_KEPT):
        put(tmp_path, f"upload{number}", LARGEST, SAFE_SECONDS + 100 + number)
    assert post(guard, [(0, bytes(500))], declared=500)[0] == 200
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"sample", *(f"upload{number}" for number in range(UPLOADS_KEPT - 1))}


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_makes_no_upload_older_or_younger(tmp_path, monkeypatch, hours):
    guard = guard_of(receiving_app, tmp_path)
    put(tmp_path, "old", LARGEST, SAFE_SECONDS + 100)
    for number in range(UPLOADS_KEPT - 1):
        put(tmp_path, f"new{number}", LARGEST, 1)
    assert post(guard, [(0, b"a")], declared=1)[0] == 200 and not (tmp_path / "old").exists()
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 3600 * hours)
    put(tmp_path, "last", LARGEST, 0)
    assert post(guard, [(0, b"a")], declared=1)[0] == 507 and len(guard._recent) == 1
    clock_of_uploads = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock_of_uploads() + SAFE_SECONDS)
    assert post(guard, [(0, b"a")], declared=1)[0] == 200 and len(guard._recent) == 1


def test_nothing_is_deleted_for_a_request_that_is_refused(tmp_path):
    guard = guard_of(receiving_app, tmp_path)
    put(tmp_path, "old", 1, SAFE_SECONDS + 100)
    for number in range(UPLOADS_KEPT):
        put(tmp_path, f"upload{number}", LARGEST, 1)
    assert post(guard, [(0, b"a")], declared=1)[0] == 507
    assert (tmp_path / "old").is_dir()


def test_files_in_deeper_folders_count(tmp_path):
    guard = guard_of(receiving_app, tmp_path)
    put(tmp_path, "links", 0, 1)
    put(tmp_path / "links", "link", UPLOADS_KEPT * LARGEST, 1)
    assert post(guard, [(0, b"a")], declared=1)[0] == 507


def test_a_slow_upload_is_not_deleted_while_it_arrives(tmp_path):
    """Its file looks old, as what arrives is written some kilobytes at a time."""
    guard = guard_of(receiving_app, tmp_path, seconds=600, idle=10)
    (tmp_path / "tmparriving").write_bytes(b"a")
    os.utime(tmp_path / "tmparriving", (time.time() - 300,) * 2)
    other = _Upload("10.0.0.2", 1, 1)
    guard._recent.append(other)
    assert post(guard, [(0, b"a")], declared=1)[0] == 200 and (tmp_path / "tmparriving").exists()
    other.ended_at = time.monotonic()
    assert post(guard, [(0, b"a")], declared=1)[0] == 200 and not (tmp_path / "tmparriving").exists()


def test_new_uploads_are_kept_and_more_are_refused(tmp_path):
    guard = guard_of(receiving_app, tmp_path)
    for number in range(UPLOADS_KEPT):
        put(tmp_path, f"upload{number}", LARGEST, 1)
    status, text = post(guard, [(0, b"a")], declared=1)
    assert status == 507 and "no space" in text and len(list(tmp_path.iterdir())) == UPLOADS_KEPT
    assert post(guard, [(0, b"a")], path="/gradio_api/queue/join")[0] == 200


def test_small_and_aborted_uploads_count(tmp_path):
    guard = guard_of(receiving_app, tmp_path)
    for number in range(UPLOADS_KEPT - 1):
        put(tmp_path, f"upload{number}", 1, 1)
    assert post(guard, [(0, b"a")], declared=1)[0] == 200
    (tmp_path / "tmpbroken").write_bytes(bytes(MAX_BYTES))
    assert post(guard, [(0, bytes(MAX_BYTES))], declared=MAX_BYTES)[0] == 507


def test_received_bytes_count_and_aborted_uploads_are_deleted(tmp_path):
    guard = guard_of(receiving_app, tmp_path, idle=10)
    (tmp_path / "tmpbroken").write_bytes(bytes(100))
    os.utime(tmp_path / "tmpbroken", (time.time() - 3600,) * 2)
    statuses = []

    async def whole_body():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def nested_app(scope, receive, send):
        """While one upload arrives, asks for the next."""
        if not statuses:
            answer = []

            async def keep(message):
                answer.append(message)

            await guard({**scope, "client": (scope["client"][0] + "0", 4000)}, whole_body, keep)
            statuses.append(answer[0]["status"])
        await receiving_app(scope, receive, send)

    guard._app = nested_app
    assert post(guard, [(0, b"")]) == (200, "0")
    # The innermost was one too many: of each, as its size was not said, the largest was expected.
    assert statuses == [507] + [200] * (UPLOADS_KEPT - 1)
    assert not (tmp_path / "tmpbroken").exists()


CLIENTS = [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8:0:1::1"), ("proxied", "")]


@pytest.mark.parametrize(("client", "other"), CLIENTS)
def test_uploads_per_address_are_limited(tmp_path, client, other):
    """Many small files count as much as a few large ones."""
    guard = guard_of(receiving_app, tmp_path)
    for _ in range(UPLOADS_PER_CLIENT):
        assert post(guard, [(0, b"a")], declared=1, client=client)[0] == 200
    status, text = post(guard, [(0, b"a")], declared=1, client=client)
    assert status == 429 and "try again in some minutes" in text
    if ":" in client:
        assert post(guard, [(0, b"a")], declared=1, client="2001:db8::ffff:1")[0] == 429
    assert post(guard, [(0, b"a")], declared=1, client=other)[0] == 200
    for upload in guard._recent:
        upload.ended_at -= SAFE_SECONDS
    assert post(guard, [(0, b"a")], declared=1, client=client)[0] == 200
    assert len(guard._recent) == 1


def test_idle_connections_per_address_are_limited(tmp_path):
    guard = guard_of(receiving_app, tmp_path, idle=0.3)
    answers = []

    async def hold(client):
        async def receive():
            await asyncio.sleep(60)

        async def send(message):
            answers.append((client, message.get("status")))

        scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "client": (client, 1)}
        return await guard({**scope, "headers": [(b"content-type", MULTIPART)]}, receive, send)

    async def hold_all():
        await asyncio.gather(*(hold(client) for client in ["10.0.0.1"] * (UPLOADS_KEPT + 1) + ["10.0.0.2"]))

    asyncio.run(hold_all())
    of_first = [status for client, status in answers if client == "10.0.0.1" and status]
    assert sorted(of_first) == [408] * UPLOADS_PER_CLIENT + [429] * (UPLOADS_KEPT + 1 - UPLOADS_PER_CLIENT)
    assert ("10.0.0.2", 408) in answers
