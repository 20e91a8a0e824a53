"""train.py, test.py and export.py on the device, compared with the CPU."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from torch.export.passes import move_to_device_pass

from benchmarks.gpu_parts.part import Figures, Found, Setting, expect
from benchmarks.gpu_parts.pictures import LABELS, data_keys
from benchmarks.gpu_parts.training import TINY_ARCH, device_of, make_config
from datasets.build import Views, build_eval_loader, input_size
from engine import train as training
from inference import export_formats
from inference.model import VideoModel, read_checkpoint
from modules.embed import VideoTable
from modules.validation import embed_with
from utils.context import RunContext
from utils.distributed import Process
from utils.metrics import class_logits
from utils.records import read_records

EMBEDDING_TOLERANCE = 1e-2  # relative to the largest value; TF32 convolutions, PyTorch's default: 1e-3 per layer
NUM_CLIPS, BATCH = 12, 4


def _train(setting: Setting, *keys: str) -> Path:
    """Run train.py with its default precision; returns the run folder."""
    run_dir = Path(setting.scratch, "run")
    cfg = make_config(
        setting._replace(tiny=True), TINY_ARCH, *data_keys(setting, NUM_CLIPS), "data.workers=1",
        f"logging.run_dir={run_dir}", "logging.eval_freq=1", *keys, batch=BATCH,
    )  # fmt: skip
    code = training.train(Namespace(check=False, quiet=False, plain=True, log_time=None, config=None), cfg, [])
    expect(code == 0, f"train.py ended with exit code {code}")
    return run_dir


def _checkpoint(setting: Setting) -> Path:
    """Path of a trained checkpoint, which is created on the first call."""
    path = Path(setting.scratch, "run", "last_model.pt")
    if not path.exists():
        _train(setting, "solver.epochs=1")
    return path


def train(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Train an epoch from JPEG frames with validation, and a second one with resume=auto."""
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    _train(setting, "solver.epochs=1")
    run_dir = _train(setting, "solver.epochs=2", "resume=auto")
    records = read_records(run_dir / "metrics.jsonl", "it was written just now")
    losses = [record["loss"] for record in records if record["kind"] == "train"]
    num_steps = 2 * NUM_CLIPS // BATCH
    expect(len(losses) == num_steps, f"{len(losses)} steps in two epochs, expected {num_steps}")
    expect(bool(np.isfinite(losses).all()), f"losses are {losses}")
    if setting.device == "cuda":
        expect(torch.cuda.max_memory_allocated() > 0, "train.py did not use the GPU")
    return Found(
        f"two epochs, the second by resume=auto; losses {losses[0]:.3f} to {losses[-1]:.3f}", {"losses": losses}
    )


def test(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Compare embeddings of two clips x three crops on the device, in fp32 and in its default precision, with the
    CPU's."""
    checkpoint = read_checkpoint(_checkpoint(setting))

    def embed(device: str, precision: str) -> tuple[VideoTable, np.ndarray, str]:
        cfg = checkpoint.config(None, [f"solver.precision={precision}", "data.workers=1"], "test").config
        model = VideoModel(cfg, LABELS, checkpoint, device_of(device))
        context = RunContext(Process(0, 1, 0, model.device), model.precision)
        table = embed_with(
            model.network, build_eval_loader(cfg, views=Views(2, 3)).to(model.device), context, BATCH, "test"
        )
        assert table is not None
        return table, model.class_matrix, model.precision

    expected, matrix, _ = embed("cpu", "fp32")
    logits, largest = class_logits(expected.embeddings, matrix), np.abs(expected.embeddings).max()
    figures, lines = {}, []
    for precision, tolerance in (("fp32", EMBEDDING_TOLERANCE), ("auto", 5 * EMBEDDING_TOLERANCE)):
        found, own_matrix, name = embed(setting.device, precision)
        difference = float(np.abs(found.embeddings - expected.embeddings).max() / largest)
        of_logits = float(np.abs(class_logits(found.embeddings, own_matrix) - logits).max())
        figures[precision] = {"precision": name, "embeddings": difference, "logits": of_logits}
        lines.append(f"{name}: embeddings within {difference:.1g} of the largest, logits within {of_logits:.1g}")
        expect(difference <= tolerance, f"{lines[-1]}, over {tolerance:g}")
    return Found("; ".join(lines), figures)


def export(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Export each format that supports GPUs on the CPU, and run it on the device."""
    checkpoint = read_checkpoint(_checkpoint(setting))
    cfg = checkpoint.config(None, ["solver.precision=fp32"], "predict").config
    loaded = VideoModel(cfg, LABELS, checkpoint, torch.device("cpu"))
    text = torch.from_numpy(loaded.class_matrix)
    model = export_formats.VideoClassifier(loaded.network, text).eval()
    about = json.dumps({"class_names": list(LABELS), "config": cfg.model_dump()})
    trace, clips = (
        export_formats.random_clips(n, cfg.data.num_frames, input_size(cfg), seed) for seed, n in enumerate((2, 5))
    )
    with torch.no_grad():
        expected, _ = model(clips)
    figures: Figures = {}
    for name in ("torch_export", "safetensors"):
        path = Path(setting.scratch, f"export{export_formats.FORMATS[name].suffix}")
        export_formats.FORMATS[name].write(path, model, text, trace, about)
        with torch.no_grad():
            if name == "safetensors":
                runs = export_formats.load_safetensors(path)[0].to(setting.device)
            else:
                with path.open("rb") as file:
                    runs = move_to_device_pass(torch.export.load(file), setting.device).module()
            logits, _ = runs(clips.to(setting.device))
        figures[name] = float((logits.cpu() - expected).abs().max())
        tolerance = 100 * EMBEDDING_TOLERANCE  # logits are 100 times a cosine
        expect(figures[name] <= tolerance, f"{name}: logits differ by {figures[name]:.2g}, over {tolerance:g}")
    return Found(", ".join(f"{name}: logits within {value:.1g}" for name, value in figures.items()), figures)
