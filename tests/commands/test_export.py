"""export.py writes a file with the same outputs as the model, or no file; the serving examples work."""

import io
import json
import os
import re
import struct
import subprocess
import sys
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from datasets.transforms import EvalTransform, Resize
from datasets.video_dataset import FrameChooser
from inference import export_formats as export
from inference import load_model
from inference.windows import WindowReader
from modules.build import build_model_and_text
from tests.commands.world import CLASSES, REPO, call
from tests.datasets.helpers import write_video
from tests.faults_of import error_line
from tests.modules.tiny import NAMES, make_config
from utils.checkpoint import save_checkpoint
from utils.config import load_config
from utils.errors import UserError
from utils.hashing import file_hash

FORMATS = ("onnx", "torch_export", "safetensors")
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}


def skip_without(file_format):
    if file_format == "onnx":
        for package in export.ONNX_PACKAGES:
            pytest.importorskip(package, reason=f"{package} is not installed; it is for --format onnx only")


@pytest.fixture(scope="module")
def weights(world, tmp_path_factory):
    """A checkpoint of the world's model, untrained."""
    torch.manual_seed(0)
    model, _ = build_model_and_text(load_config(world.config).config, list(CLASSES), torch.device("cpu"))
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    save_checkpoint(path, {"model_state_dict": model.state_dict(), "class_names": list(CLASSES)})
    return path


@pytest.fixture(scope="module")
def exported(world, weights, tmp_path_factory):
    """Path of the exported file and the output of the command, by format."""
    made = {}

    def export_once(file_format):
        skip_without(file_format)
        if file_format not in made:
            out = tmp_path_factory.mktemp("exported") / f"model{export.FORMATS[file_format].suffix}"
            words = ("--config", world.config, "--weights", weights, "--format", file_format, "--out", out)
            with redirect_stdout(io.StringIO()) as printed:
                assert call("export", *words) == 0
            made[file_format] = out, printed.getvalue()
        return made[file_format]

    return export_once


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_file_contains_the_model_and_its_metadata(weights, exported, file_format):
    out, printed = exported(file_format)
    rows = [line.split() for line in printed.splitlines() if re.match(r" *\d+  ", line)]
    assert [int(row[0]) for row in rows] == list(export.PARITY_BATCHES) and all(row[-1] == "100%" for row in rows)
    assert "within 0.01 (logits)" in printed and list(out.parent.iterdir()) == [out]
    steps = [line.split()[0] for line in printed.splitlines() if re.match("[a-z]+ing ", line)]
    assert steps == ["building", "converting", "comparing"]

    about = about_in(out, file_format)
    assert about["class_names"] == list(CLASSES) and (about["num_frames"], about["input_size"]) == (4, 32)
    assert (about["resize_to"], about["resize_mode"], about["interpolation"]) == (32, "shortest", "bicubic")
    assert about["config"]["network"]["sim_header"] == "Transf"
    assert about["hashes"]["weights_file"] == file_hash(weights)

    logits, embedding = export.FORMATS[file_format].run(out)(export.random_clips(7, 4, 32, seed=9))
    assert logits.shape == (7, 3) and embedding.shape == (7, 32) and logits.dtype == torch.float32


def test_the_graph_runs_with_another_layout_of_attention(exported):
    """On GPUs, heads come before tokens in memory."""
    out, _ = exported("torch_export")
    run, clips = export.FORMATS["torch_export"].run(out), export.random_clips(2, 4, 32, seed=9)
    expected, _ = run(clips)
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(run(clips)[0], expected, rtol=1e-4, atol=1e-3)


def about_in(path, file_format):
    if file_format == "onnx":
        import onnxruntime

        return json.loads(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map[export.ABOUT])
    if file_format == "torch_export":
        extra = {export.ABOUT: ""}
        with path.open("rb") as file:
            torch.export.load(file, extra_files=extra)
        return json.loads(extra[export.ABOUT])
    return export.load_safetensors(path)[1]


@pytest.mark.parametrize(
    ("file_format", "vision", "changes"),
    [
        ("torch_export", None, {"sim_header": "None"}),
        ("torch_export", None, {"tm": "tsm", "drop_out": 0.1}),
        ("onnx", None, {"joint_st": True, "sim_header": "None"}),
        ("onnx", RESNET, {"tm": "tsm"}),
        ("safetensors", None, {"train_classifier": True}),
        ("safetensors", RESNET, {}),
    ],
    ids=["mean", "tsm", "joint_st", "ResNet with tsm", "trained classifier", "ResNet"],
)
def test_other_towers_and_heads(tmp_path, file_format, vision, changes):
    skip_without(file_format)
    cfg = make_config(tmp_path, vision, head_layers=1, **changes)
    video, text = build_model_and_text(cfg, NAMES, torch.device("cpu"))
    text = video.class_embeddings().detach() if text is None else text
    model, size, path = export.VideoClassifier(video, text).eval(), cfg.data.input_size, tmp_path / "model"
    about = {"class_names": NAMES, "config": cfg.model_dump()}
    export.FORMATS[file_format].write(path, model, text, export.random_clips(2, 4, size), json.dumps(about))
    found = export.measure_parity(path, file_format, model, 4, size)
    export.check_parity(found, path)


def test_logits_are_those_of_a_test(tmp_path):
    cfg = make_config(tmp_path)
    video, text = build_model_and_text(cfg, NAMES, torch.device("cpu"))
    clips = export.random_clips(2, 4, 32)
    with torch.no_grad():
        logits, embedding = export.VideoClassifier(video, text).eval()(clips)
        torch.testing.assert_close(embedding, video.eval().encode_video(clips))
    cosines = torch.nn.functional.cosine_similarity(embedding[:, None], text[None], dim=-1)
    torch.testing.assert_close(logits, 100 * cosines)


def test_a_file_with_different_outputs_is_deleted(world, weights, tmp_path, capsys, monkeypatch):
    def write_another(path, model, *rest):
        with torch.no_grad():
            model.video.visual.proj.mul_(-1)
            export._write_safetensors(path, model, *rest)
            model.video.visual.proj.mul_(-1)

    monkeypatch.setitem(export.FORMATS, "safetensors", export.FORMATS["safetensors"]._replace(write=write_another))
    out = tmp_path / "model.safetensors"
    error = error_line(
        call("export", "--config", world.config, "--weights", weights, "--format", "safetensors", "--out", out), capsys
    )
    assert "logits differ from eager PyTorch by" in error and "at most 0.01" in error
    assert not list(tmp_path.iterdir())


def test_a_tower_that_the_exporter_does_not_support(tmp_path):
    class Stubborn(torch.nn.Module):
        def forward(self, clips):
            return clips.float() if clips.sum().item() > 3 else clips.double()

    with pytest.raises(UserError, match="does not support this model .* use --format safetensors"):
        export.FORMATS["torch_export"].write(tmp_path / "x", Stubborn(), torch.ones(3, 4), torch.ones(2, 4), "{}")


def test_mistakes(world, weights, tmp_path, capsys, monkeypatch):
    def fails_with(part, config, weights, *arguments):
        assert part in error_line(call("export", "--config", config, "--weights", weights, *arguments), capsys)

    fails_with("nowhere.pt: no such checkpoint", world.config, tmp_path / "nowhere.pt", "--format", "safetensors")
    fails_with("is a folder", world.config, weights, "--format", "safetensors", "--out", tmp_path)
    (tmp_path / "afile").write_text("")
    inside = tmp_path / "afile" / "x.st"
    fails_with(f"--out {inside}: cannot be written", world.config, "no.pt", "--format", "safetensors", "--out", inside)
    (tmp_path / "afile").unlink()
    fails_with("data.label_list", world.config, weights, "--format", "onnx", "data.label_list=null")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(export, "ONNX_PACKAGES", ("onnxruntime",))
    fails_with("run 'pip install onnxruntime'", world.config, weights, "--format", "onnx", "--out", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(export, "_import_onnx", lambda: None)
    monkeypatch.setattr(export, "ONNX_MAX_BYTES", 1000)
    fails_with("ONNX files are limited to 2", world.config, weights, "--format", "onnx")


def test_a_file_of_another_kind_is_refused(tmp_path):
    for content in (b"", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(UserError, match="x.safetensors: .* give a file written by export.py"):
            export.load_safetensors(tmp_path / "x.safetensors")


EXAMPLES = dict(
    zip(("clips", *FORMATS), re.findall(r"```python\n(.*?)```", (REPO / "docs" / "export.md").read_text(), re.S))
)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_examples_of_the_page_give_the_probabilities_of_predict(world, weights, exported, tmp_path, file_format):
    """The first two without this project's code, on a clip that is 43 pixels wide after resizing its height to 32."""
    out, _ = exported(file_format)
    (tmp_path / "clips.py").write_text(EXAMPLES["clips"])
    script = tmp_path / "consumer.py"
    script.write_text(EXAMPLES[file_format].replace(f"exp/demo/transf/last_model{out.suffix}", str(out)))
    away = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if file_format == "safetensors":
        away["PYTHONPATH"] = str(REPO)
    video = tmp_path / "odd.mp4"
    write_video(video, 30, size=(40, 54))
    run = subprocess.run(
        [sys.executable, script, video], cwd=tmp_path, env=away, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    lines = [line.split(maxsplit=1) for line in run.stdout.splitlines()]
    assert {name for _, name in lines} == set(CLASSES)

    predicted = load_model(weights, world.config, list(CLASSES)).predict(video, window=0)
    found = {name: float(value) for value, name in lines}
    assert [found[name] for name in CLASSES] == pytest.approx(predicted.probabilities[0].tolist(), abs=1e-3)


def test_the_example_rotates_and_mirrors_like_the_reader(tmp_path):
    """All eight orientations of the display matrix."""
    namespace = {}
    exec(EXAMPLES["clips"], namespace)  # noqa: S102
    write_video(tmp_path / "v.mp4", 8, size=(40, 54))
    stored = bytearray((tmp_path / "v.mp4").read_bytes())
    at = stored.find(b"tkhd") + 44  # of a box of version 0
    reader = WindowReader(FrameChooser("test", 4, 1, False), EvalTransform(Resize(32), 32))
    about = {"num_frames": 4, "input_size": 32, "resize_to": 32}
    for a, b, c, d in [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)] + [
        (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, -1, 0), (0, -1, -1, 0),
    ]:  # fmt: skip
        stored[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        (tmp_path / "v.mp4").write_bytes(stored)
        expected = next(reader.windows(tmp_path / "v.mp4", window=0)).clip.numpy()
        found = namespace["clip_of"](str(tmp_path / "v.mp4"), about)
        assert np.abs(found.astype(int) - expected).max() <= 2
