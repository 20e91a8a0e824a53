"""`export.py`: writes a trained model to one file for serving, and checks its outputs."""

import argparse
import json
from pathlib import Path

import torch

from datasets.lists import read_labels
from inference import export_formats
from inference.model import VideoModel, read_checkpoint
from inference.windows import build_window_reader
from utils.distributed import Process
from utils.errors import UserError
from utils.files import atomic_path, check_writable
from utils.hashing import content_hash, file_hash
from utils.project_paths import given
from utils.results import format_table
from utils.runlog import open_log


def export(args: argparse.Namespace) -> None:
    """Write the file and compare its outputs with those of the model."""
    process = Process(0, 1, 0, torch.device("cpu"))
    checkpoint = read_checkpoint(args.weights)
    # The exported graph is float32, whatever the training precision.
    cfg, warnings, names = checkpoint.config(args.config, [*args.overrides, "solver.precision=fp32"], "predict")
    if not names and not cfg.data.label_list:
        raise UserError(f"{args.weights}: contains no class names; set data.label_list, a CSV of class descriptions")
    log = open_log(process, warnings)
    out = Path(args.out or Path(args.weights).with_suffix(export_formats.FORMATS[args.format].suffix))
    check_writable(out, "--out", inputs=(args.weights, args.config))

    names = names or read_labels(given(cfg.data.label_list), cfg.data.num_classes)
    log.info("building the model of %s", args.weights)
    loaded = VideoModel(cfg, names, checkpoint, process.device)
    if not loaded.network.scorer.exports:
        raise UserError(f"network.scorer {cfg.network.scorer}: export is not supported")
    text = torch.from_numpy(loaded.class_matrix)
    model = export_formats.VideoClassifier(loaded.network, text).eval()

    num_frames = cfg.data.num_frames
    transform = build_window_reader(cfg).transform
    resize, input_size = transform.resize, transform.input_size
    about = {
        "class_names": names,
        "num_frames": num_frames,
        "resize_to": resize.size,
        "resize_mode": resize.mode,
        "interpolation": resize.interpolation,
        "input_size": input_size,
        "embedding_size": text.shape[1],
        "config": cfg.model_dump(),
        "hashes": {
            "weights_file": file_hash(args.weights),
            "state_dict": content_hash(loaded.network.state_dict()),
            "text_matrix": content_hash(text),
        },
    }

    # ---- the file, which is renamed to its final name once its outputs agree
    log.info("%s: %d frames of %dx%d, %d classes", args.weights, num_frames, input_size, input_size, len(names))
    clips = export_formats.random_clips(2, num_frames, input_size)
    with atomic_path(out) as temporary:
        log.info("converting to %s (large models take minutes)", args.format)
        export_formats.FORMATS[args.format].write(temporary, model, text, clips, json.dumps(about))
        log.info("comparing the outputs of the file with those of PyTorch")
        parities = export_formats.measure_parity(temporary, args.format, model, num_frames, input_size)
        rows = [("clips", "logits differ by", "embeddings differ by", "same top-1")]
        for parity in parities:
            logits = f"{parity.logit_difference:.2g}"
            embeddings = f"{parity.embedding_difference:.2g} of the largest"
            rows.append((str(parity.batch_size), logits, embeddings, f"{parity.top1_agreement:.0%}"))
        log.info("%s", format_table(rows))
        export_formats.check_parity(parities, out)
    log.info(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, within {export_formats.LOGIT_TOLERANCE:g} (logits) and "
        f"{export_formats.EMBEDDING_TOLERANCE:g} (embeddings) of eager PyTorch"
    )
