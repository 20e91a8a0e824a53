"""An HTTP server of a folder, with byte ranges, for benchmarks and tests."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class RangeServer(ThreadingHTTPServer):
    """Serves `folder`.

    Attributes:
        requests: requested paths, in order.
        failures: number of the next requests that are answered with an error.
        has_ranges: if False, every response is the whole file.
    """

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.failures, self.has_ranges = folder, 0, True
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: RangeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        path = self.server.folder / self.path.lstrip("/")
        if self.server.failures > 0:
            self.server.failures -= 1
            self._answer(503, b"busy")
        elif not path.is_file():
            self._answer(404, b"")
        else:
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if match is None or not self.server.has_ranges:
                self._answer(200, path.read_bytes())
            elif int(match[1]) >= path.stat().st_size:
                self._answer(416, b"")
            else:
                with path.open("rb") as file:
                    file.seek(int(match[1]))
                    self._answer(206, file.read(int(match[2]) + 1 - int(match[1])))

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str((self.server.folder / self.path.lstrip("/")).stat().st_size))
        self.end_headers()

    def _answer(self, code: int, data: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def http_server(folder: Path) -> Iterator[RangeServer]:
    with RangeServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
