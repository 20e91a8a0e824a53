"""app.py without its page: what is served by default, limits, mistakes. tests/browser/test_app_page.py has the page."""

import asyncio
import importlib.util
import socket
import sys
import threading

import numpy as np
import pytest

import engine.app
from inference.model import NAMES_PER_TURN
from tests.commands.world import CLASSES, REPO, call
from tests.datasets.helpers import write_skipped_frames
from tests.faults_of import error_line
from utils.errors import UserError


@pytest.fixture(scope="module")
def app():
    """The entry script: its arguments and defaults."""
    spec = importlib.util.spec_from_file_location("app", REPO / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(app, cache, *arguments):
    args = app.parse_arguments([str(a) for a in arguments])
    app.check_arguments(args)
    return engine.app.load_service(args, str(cache))


@pytest.fixture(scope="module")
def service(app, world, tmp_path_factory):
    return load(app, tmp_path_factory.mktemp("cache"), "--config", world.video_config)[0]


def test_the_default_is_embedded_and_local(app, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "DEFAULT_WEIGHTS", "exp/nowhere.pt")
    service, samples = load(app, tmp_path)
    assert "no checkpoint" in service.model.description and len(service.model.class_names) == 40
    assert app.parse_arguments([]).host == "127.0.0.1" and len(samples) == 6
    prediction = service.predict(str(samples[0][1]), None, None)
    ((_, clip),) = prediction.clips
    assert clip.lit.shape == clip.frames.shape and clip.contributions.shape == (len(clip.frames),)
    assert prediction.probabilities.shape == (1, 40) and prediction.source == samples[0][1].name


def test_typed_classes(service, world):
    video = str(world.root / "videos" / "val_0_0.mp4")
    assert service.predict(video, None, None).class_names == list(CLASSES)
    assert service.predict(video, ["cooking", "dancing"], 0.2).class_names == ["cooking", "dancing"]
    assert service.model.class_names == list(CLASSES)


def test_the_models_own_names_are_not_embedded_again(service, world, monkeypatch):
    monkeypatch.setattr(type(service.model), "_encode", None)
    video = str(world.root / "videos" / "val_0_0.mp4")
    assert service.predict(video, list(CLASSES), None).class_names == list(CLASSES)


def test_many_names_are_embedded_in_batches_and_not_saved(app, world, tmp_path, monkeypatch):
    service, _ = load(app, tmp_path, "--config", world.video_config)
    saved, sizes = sorted(tmp_path.rglob("*")), []
    encode = type(service.model)._encode

    def watched(model, names):
        assert service._turn.locked()
        sizes.append(len(names))
        return encode(model, names)

    monkeypatch.setattr(type(service.model), "_encode", watched)
    names = [f"thing {number}" for number in range(2 * NAMES_PER_TURN + 3)]
    prediction = service.predict(str(world.root / "videos" / "val_0_0.mp4"), names, None)
    assert sizes == [NAMES_PER_TURN, NAMES_PER_TURN, 3] and sorted(tmp_path.rglob("*")) == saved
    alone = service.model.with_classes(names[NAMES_PER_TURN : NAMES_PER_TURN + 2], service._turn).class_matrix
    many = service.model.with_classes(names, service._turn).class_matrix
    np.testing.assert_allclose(many[NAMES_PER_TURN : NAMES_PER_TURN + 2], alone, rtol=1e-4, atol=1e-5)
    assert prediction.class_names == names and many.shape == (len(names), 32)


def test_classes_of_other_data_sets_are_offered_if_the_model_supports_them(service, world, app, tmp_path):
    sets = engine.app.class_sets(service.model)
    assert list(sets)[0] == "the model's own" and len(sets["Kinetics-400"]) == 400 and len(sets["UCF101"]) == 101
    fixed = load(app, tmp_path, "--config", world.video_config, "network.classifier=orthogonal")[0]
    assert list(engine.app.class_sets(fixed.model)) == ["the model's own"]


def test_below_the_threshold_a_video_is_unknown(service, world):
    video = str(world.root / "videos" / "val_0_0.mp4")
    assert service.predict(video, None, None, 0.0).verdict()[0] in CLASSES
    assert service.predict(video, ["a", "b", "c"], None, 1.0).verdict()[0] == "unknown"


def test_two_simultaneous_users_get_their_own_results(service, world):
    found = {}

    def ask(number):
        video = str(world.root / "videos" / f"val_{number}_0.mp4")
        found[number] = service.predict(video, [f"thing {number}", "other"], None)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(3):
        assert found[number].class_names[0] == f"thing {number}" and found[number].source == f"val_{number}_0.mp4"


@pytest.mark.parametrize(
    ("names", "seconds", "part"),
    [
        (["x"] * 2, None, "classes: x is given twice"),
        ([str(n) for n in range(401)], None, "401 classes; the limit is 400"),
        (["y" * 201], None, "longer than 200 characters"),
        (None, 0.001, "more than the limit of 300; use longer windows"),
    ],
)
def test_limits_of_a_request(service, world, names, seconds, part):
    with pytest.raises(UserError) as caught:
        service.predict(str(world.root / "videos" / "val_0_0.mp4"), names, seconds)
    assert part in str(caught.value)


def test_a_slow_video_is_cancelled_without_blocking_others(service, world, tmp_path, monkeypatch):
    """A small file that takes a minute to decode: its frames have no changes."""
    write_skipped_frames(tmp_path / "long.mp4", 60_000, size=(1088, 1920))
    short = world.root / "videos" / "val_0_0.mp4"
    service.predict(str(short), None, None)  # the first child is the slowest to start
    monkeypatch.setattr("engine.app.MAX_COMPUTING_SECONDS", 6)
    found = {}

    def ask(path):
        try:
            found[path.name] = service.predict(str(path), None, None)
        except UserError as error:
            found[path.name] = str(error)

    slow = threading.Thread(target=ask, args=(tmp_path / "long.mp4",))
    slow.start()
    ask(short)
    assert slow.is_alive() and len(found["val_0_0.mp4"].spans) == 1
    slow.join()
    assert found["long.mp4"].startswith("long.mp4: took more than 6 s; use a shorter")


def test_a_corrupted_file_is_a_one_line_error_and_the_server_keeps_running(service, world, tmp_path):
    whole = (world.root / "videos" / "val_0_0.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError) as caught:
        service.predict(str(tmp_path / "half.mp4"), None, None)
    assert "half.mp4" in str(caught.value) and "\n" not in str(caught.value)
    assert len(service.predict(str(world.root / "videos" / "val_0_0.mp4"), None, None).spans) == 1


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "::1", "::"])
def test_the_page_is_served_under_known_names(app, tmp_path, listens_on):
    pytest.importorskip("starlette", reason="gradio, which needs it, is not installed; it is for app.py only")
    args = app.parse_arguments(["--host", listens_on, "--allow_host", "*.lab.example"])
    hosts = engine.app.guards(args, tmp_path, None)[0]
    passed, answered = [], []

    async def page(scope, receive, send):
        passed.append(scope["headers"][0][1].decode())

    async def send(message):
        answered.append(message)

    names = ["127.0.0.1:80", "[::1]:80", "localhost", "a.lab.example", "evil.example", "0.0.0.0", "[2001:db8::1]:80"]
    for name in names:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", name.encode())]}
        asyncio.run(hosts.cls(page, **hosts.kwargs)(scope, None, send))
    assert passed == names[:4] and len(answered) == 2 * 3


def test_mistakes(world, tmp_path, capsys, monkeypatch):
    def fails_with(part, *arguments):
        assert part in error_line(call("app", *arguments), capsys)

    fails_with("x.pt: no such checkpoint file", "--weights", "x.pt")
    fails_with("--max_seconds 0", "--max_seconds", 0)
    fails_with("--port 70000", "--port", 70000)
    fails_with("--allow_host a.*: must be a name", "--allow_host", "a.*")
    fails_with("--allow_host lab:80: must be a name", "--allow_host", "lab:80")
    for host in ("192.0.2.1", "2001:db8::1", "a b"):  # addresses reserved for documentation (RFC 5737, RFC 3849)
        fails_with(f"--host {host} --port 0: cannot be listened on (", "--host", host, "--port", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fails_with("(Address already in use)", "--port", taken.getsockname()[1])
    monkeypatch.setitem(sys.modules, "gradio", None)
    fails_with("pip install -r requirements-app.txt", "--port", 0)


def test_users_do_not_see_the_folder_of_the_weights(app):
    assert engine.app.describe("/home/me/run/best.pt: ViT-B/32", "/home/me/run/best.pt") == "best.pt: ViT-B/32"
    assert engine.app.describe("plain CLIP ViT-B/32", None) == "plain CLIP ViT-B/32"
