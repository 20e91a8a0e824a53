"""Uploads while they arrive: bounds on time and space."""

import asyncio
import os
import time

import pytest

from inference.upload_guard import SAFE_SECONDS, UPLOADS_KEPT, UploadGuard


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


def post(guard, parts, path="/gradio_api/upload", declared=None, method="POST"):
    """Status and text of the answer to a body that arrives as (seconds of waiting, bytes)."""
    answer, parts = [], list(parts)

    async def receive():
        seconds, content = parts.pop(0)
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": content, "more_body": bool(parts)}

    async def send(message):
        answer.append(message)

    headers = [] if declared is None else [(b"content-length", str(declared).encode())]
    asyncio.run(guard({"type": "http", "method": method, "path": path, "headers": headers}, receive, send))
    return answer[0]["status"], answer[1]["body"].decode()


def test_an_upload_in_time_passes(tmp_path):
    guard = UploadGuard(receiving_app, tmp_path, 1000, seconds=60, idle=60)
    assert post(guard, [(0, b"ab"), (0.01, b"c")], declared=3) == (200, "3")


@pytest.mark.parametrize(("seconds", "idle"), [(60, 0.05), (0.05, 60)])
def test_a_slow_upload_ends(tmp_path, seconds, idle):
    guard = UploadGuard(receiving_app, tmp_path, 1000, seconds, idle)
    slow = [(0.03, b"a")] * 5 if seconds < 1 else [(0, b"a"), (10, b"b")]
    begin = time.monotonic()
    assert post(guard, slow) == (408, "The upload was too slow and was ended.")
    assert time.monotonic() - begin < 5
    assert post(guard, [(0.2, b"")], path="/queue/join")[0] == 200


def test_an_error_of_the_page_stays_an_error(tmp_path):
    async def failing_app(scope, receive, send):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        post(UploadGuard(failing_app, tmp_path, 1000), [(0, b"")])


def put(folder, name, size, age):
    (folder / name).mkdir()
    (folder / name / "video.mp4").write_bytes(bytes(size))
    os.utime(folder / name, (time.time() - age,) * 2)


def test_old_uploads_make_space(tmp_path):
    put(tmp_path, "sample", 1000, 9000)
    guard = UploadGuard(receiving_app, tmp_path, 1000)
    for number in range(UPLOADS_KEPT):
        put(tmp_path, f"upload{number}", 1000, SAFE_SECONDS + 100 + number)
    assert post(guard, [(0, b"a" * 500)], declared=500)[0] == 200
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"sample", *(f"upload{number}" for number in range(UPLOADS_KEPT - 1))}


def test_new_uploads_are_kept_and_further_ones_refused(tmp_path):
    guard = UploadGuard(receiving_app, tmp_path, 1000)
    for number in range(UPLOADS_KEPT):
        put(tmp_path, f"upload{number}", 1000, 1)
    status, text = post(guard, [(0, b"a")], declared=1)
    assert status == 507 and "no space" in text and len(list(tmp_path.iterdir())) == UPLOADS_KEPT
    assert post(guard, [(0, b"a")], path="/queue/join")[0] == 200


def test_what_arrives_counts_and_what_broke_off_is_deleted(tmp_path):
    guard = UploadGuard(receiving_app, tmp_path, 1000, idle=10)
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

            await guard(scope, whole_body, keep)
            statuses.append(answer[0]["status"])
        await receiving_app(scope, receive, send)

    guard._app = nested_app
    assert post(guard, [(0, b"")]) == (200, "0")
    # The innermost was one too many: of each, as its size was not said, the largest was expected.
    assert statuses == [507] + [200] * (UPLOADS_KEPT - 1)
    assert not (tmp_path / "tmpbroken").exists()
