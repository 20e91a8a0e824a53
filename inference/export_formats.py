"""Exports a trained model (video tower and class embeddings) to ONNX, torch.export or safetensors.

Shapes: B batch, T frames, C channels (3), S input size, D embedding, K classes.
"""

import importlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import nn
from torch.nn import functional as F

from modules.build import build_model, load_clip_model
from modules.video_clip import VideoCLIP
from utils.errors import UserError, first_line
from utils.metrics import EVAL_LOGIT_SCALE
from utils.schema import Config

ABOUT = "video_clip.json"  # file with class names, config and hashes in each format
TEXT_MATRIX = "text_matrix"
INPUT_NAME, OUTPUT_NAMES = "clips", ("logits", "embedding")
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ONNX_MAX_BYTES = 2**31 - 2**24  # limit of a protobuf message (protobuf.dev: 2 GiB), minus space for the graph

# Tolerances for float32 arithmetic in another order: logits are in -100..100, embeddings are relative to their maximum.
LOGIT_TOLERANCE, EMBEDDING_TOLERANCE = 1e-2, 1e-3
PARITY_BATCHES = (1, 2, 5)

Outputs = tuple[torch.Tensor, torch.Tensor]


class VideoClassifier(nn.Module):
    """The exported module: uint8 clips (B,T,C,S,S) -> logits (B,K) and video embeddings (B,D), both float32.

    The logits are 100 x cosine, so that their softmax gives the probabilities of test.py. The embeddings are not
    normalised.

    Args:
        text: (K,D) float32 class embeddings, not normalised.
    """

    text: torch.Tensor

    def __init__(self, video: VideoCLIP, text: torch.Tensor):
        super().__init__()
        self.video = video
        self.register_buffer("text", F.normalize(text.float(), dim=-1))

    def forward(self, clips: torch.Tensor) -> Outputs:
        embedding = self.video.encode_video(clips)
        return EVAL_LOGIT_SCALE * F.normalize(embedding, dim=-1) @ self.text.T, embedding


class Parity(NamedTuple):
    """Comparison with eager PyTorch on `batch_size` random clips: maximum absolute difference of the logits, of the
    embeddings (relative to their maximum), and the share of clips with the same top-1 class."""

    batch_size: int
    logit_difference: float
    embedding_difference: float
    top1_agreement: float


MAX_BATCH = 1 << 20  # clips; PyTorch 2.7 requires a limit of the batch size


@contextmanager
def _exporter() -> Iterator[None]:
    """Context for PyTorch's exporters that raises a UserError if the model is not supported."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # outputs are compared afterwards
            yield
    except RuntimeError as error:  # base class of all errors of torch.export and torch.onnx
        raise UserError(
            f"PyTorch's exporter does not support this model ({first_line(error)}); use --format safetensors, which "
            "supports all models"
        ) from error


def _trace(model: VideoClassifier, clips: torch.Tensor) -> torch.export.ExportedProgram:
    """The model's graph, for any batch size."""
    shapes = {INPUT_NAME: {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}}
    program = torch.export.export(model, (clips,), dynamic_shapes=shapes, strict=True)
    # Views are recorded if the layout of a tensor allows them, but attention has another layout on other devices.
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    program.graph_module.recompile()
    return program


def _write_onnx(path: Path, model: VideoClassifier, text: torch.Tensor, clips: torch.Tensor, about: str) -> None:
    _import_onnx()
    num_bytes = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    if num_bytes > ONNX_MAX_BYTES:
        raise UserError(
            f"--format onnx: the model has {num_bytes / 2**30:.1f} GiB, but ONNX files are limited to 2; "
            "use --format torch_export"
        )
    for package in ("onnxscript", "onnx_ir"):  # they log every simplified node
        logging.getLogger(package).setLevel(logging.ERROR)
    with _exporter():
        program = torch.onnx.export(
            _trace(model, clips), input_names=[INPUT_NAME], output_names=list(OUTPUT_NAMES), dynamo=True, verbose=False
        )
    assert program is not None  # always returned with dynamo
    program.model.metadata_props[ABOUT] = about
    path.write_bytes(program.model_proto.SerializeToString())


def _run_onnx(path: Path) -> Callable[[torch.Tensor], Outputs]:
    onnxruntime = _import_onnx()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(clips: torch.Tensor) -> Outputs:
        logits, embedding = session.run(list(OUTPUT_NAMES), {INPUT_NAME: clips.numpy()})
        return torch.from_numpy(logits), torch.from_numpy(embedding)

    return run


def _import_onnx() -> Any:
    """onnxruntime. Raises a UserError if a package for ONNX is missing."""
    try:
        return [importlib.import_module(package) for package in ONNX_PACKAGES][-1]
    except ModuleNotFoundError as error:
        if error.name not in ONNX_PACKAGES:
            raise
        command = f"pip install {' '.join(ONNX_PACKAGES)}"
        raise UserError(f"--format onnx: {error.name} is not installed; run '{command}'") from None


def _write_torch_export(
    path: Path, model: VideoClassifier, text: torch.Tensor, clips: torch.Tensor, about: str
) -> None:
    with _exporter():
        program = _trace(model, clips)
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={ABOUT: about})


def _run_torch_export(path: Path) -> Callable[[torch.Tensor], Outputs]:
    with path.open("rb") as file:
        return torch.export.load(file).module()


def _write_safetensors(path: Path, model: VideoClassifier, text: torch.Tensor, clips: torch.Tensor, about: str) -> None:
    state = {name: value.contiguous() for name, value in model.video.state_dict().items()}
    path.write_bytes(save(state | {TEXT_MATRIX: text.float().clone()}, metadata={ABOUT: about}))


def load_safetensors(path: str | Path) -> tuple[VideoClassifier, dict[str, Any]]:
    """The model of a `--format safetensors` file, on the CPU in evaluation mode, and its JSON.

    CLIP's weights (`network.arch` and `network.weights` in its config) must also exist, because they define the tower.
    Raises a UserError if the file is missing, corrupted, or another kind of file.
    """
    remedy = "give a file written by export.py --format safetensors"
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(ABOUT, "null"))
        state = load_file(str(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {remedy}") from error
    if about is None or TEXT_MATRIX not in state:
        raise UserError(f"{path}: has no {ABOUT} and {TEXT_MATRIX}; {remedy}")
    cfg = Config.model_validate(about["config"])
    text = state.pop(TEXT_MATRIX)
    model = build_model(cfg, load_clip_model(cfg), about["class_names"], text)
    model.merge_adapter()  # it is merged in the file
    model.load_state_dict(state)
    return VideoClassifier(model, text).eval(), about


class Format(NamedTuple):
    """How a format is written, and loaded from its file: clips -> logits, embedding.

    `write` takes the model in evaluation mode, its text matrix (K,D) float32, not normalised, clips uint8 (2,T,C,S,S)
    for tracing, and the JSON of names, config and hashes. It raises a UserError if packages of the format are missing
    or it does not support the model.
    """

    suffix: str
    write: Callable[[Path, VideoClassifier, torch.Tensor, torch.Tensor, str], None]
    run: Callable[[Path], Callable[[torch.Tensor], Outputs]]


FORMATS = {
    "onnx": Format(".onnx", _write_onnx, _run_onnx),
    "torch_export": Format(".pt2", _write_torch_export, _run_torch_export),
    "safetensors": Format(".safetensors", _write_safetensors, lambda path: load_safetensors(path)[0]),
}


@torch.no_grad()
def measure_parity(
    path: Path, file_format: str, model: VideoClassifier, num_frames: int, input_size: int
) -> list[Parity]:
    """Compare the file at `path` with the eager `model` on seeded random clips of several batch sizes."""
    run = FORMATS[file_format].run(path)
    parities = []
    for seed, batch_size in enumerate(PARITY_BATCHES):
        clips = random_clips(batch_size, num_frames, input_size, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # exported modules warn about resolved branches
            logits, embedding = run(clips)
            expected_logits, expected_embedding = model(clips)
        parities.append(
            Parity(
                batch_size,
                float((logits - expected_logits).abs().max()),
                float((embedding - expected_embedding).abs().max() / expected_embedding.abs().max()),
                float((logits.argmax(1) == expected_logits.argmax(1)).float().mean()),
            )
        )
    return parities


def check_parity(parities: list[Parity], path: Path) -> None:
    """Raise a UserError if the outputs of the exported model differ by more than the tolerances, or are NaN."""
    for parity in parities:
        # "not <=" is also true for NaN.
        if not (parity.logit_difference <= LOGIT_TOLERANCE and parity.embedding_difference <= EMBEDDING_TOLERANCE):
            raise UserError(
                f"{path}: not written: on {parity.batch_size} clips its logits differ from eager PyTorch by "
                f"{parity.logit_difference:.2g} (at most {LOGIT_TOLERANCE:g}), its embeddings by "
                f"{parity.embedding_difference:.2g} (at most {EMBEDDING_TOLERANCE:g}); use another --format"
            )


def random_clips(batch_size: int, num_frames: int, input_size: int, seed: int = 0) -> torch.Tensor:
    """Seeded uint8 (B,T,C,S,S): coarse and fine patches of colour and noise, different in each frame."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch_size * num_frames, 3)
    layers = [
        F.interpolate(torch.rand(*shape, size, size, generator=generator), input_size, mode="nearest")
        for size in (2, 7, input_size)
    ]
    mixed = torch.stack(layers).mean(dim=0)
    return (255 * mixed).round().to(torch.uint8).unflatten(0, (batch_size, num_frames))
