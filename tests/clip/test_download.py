"""Downloads are announced, and a missing network is detected quickly."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import huggingface_hub
import open_clip
import pytest

from clip import download, load_clip
from tests.clip.tiny import save_state
from utils.errors import UserError


@pytest.fixture
def silent_server():
    """The address of a server that accepts connections but never answers, as behind some firewalls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class Refuse(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(403)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_without_network_a_download_ends_within_ten_seconds(monkeypatch, caplog, silent_server, no_proxy):
    assert download.NETWORK_SECONDS < 10
    monkeypatch.setattr(download, "NETWORK_SECONDS", 0.5)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", silent_server)
    monkeypatch.setattr(download, "cached_file", lambda repo, filename: None)
    monkeypatch.setattr(open_clip, "download_pretrained", None)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"weights openai of ViT-B-32 could not be downloaded: .* cannot be reached"):
        load_clip("ViT-B/32")
    assert time.monotonic() - started < 5
    assert f"downloading weights openai of ViT-B-32 from {silent_server}/timm/" in caplog.text


def test_a_server_that_answers_with_an_error_is_reachable(no_proxy):
    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert download.is_reachable(f"http://127.0.0.1:{server.server_port}/x")
    assert not download.is_reachable(f"http://127.0.0.1:{server.server_port}/x")


def test_cached_files_need_no_network(monkeypatch, tmp_path, caplog):
    path = save_state(tmp_path / "weights.pt")
    asked = []

    def cached(repo, filename):
        asked.append((repo, filename))
        return str(path)

    monkeypatch.setattr(download, "cached_file", cached)
    monkeypatch.setattr(download, "is_reachable", None)
    with pytest.raises(UserError, match="73 of a different shape"):  # it is read, and is of a smaller model
        load_clip("ViT-B/32")
    assert asked == [("timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors")]
    download.announce_hub_download("a tokenizer", "a/b", "tokenizer.json", "")
    assert "downloading" not in caplog.text


def test_offline_mode_sends_no_request(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(download, "is_reachable", None)
    download.announce_hub_download("a tokenizer", "no/such-repository", "tokenizer.json", "")
