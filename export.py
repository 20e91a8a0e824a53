"""Writes a trained model to one file for serving (ONNX, torch.export, safetensors), checked against the model here."""

import argparse
import sys

from utils.cli import run_story
from utils.config import load_config
from utils.errors import UserError


def parse_arguments(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", metavar="CONFIG", help="the recipe; docs/config.md explains its keys")
    parser.add_argument("weights", metavar="WEIGHTS", help="a checkpoint of train.py or a published one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override")
    parser.add_argument("--format", required=True, choices=("onnx", "torch_export", "safetensors"))
    parser.add_argument("--out", metavar="FILE", help="default: the weights' name with the format's suffix")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_intermixed_args(arguments)


def main(args) -> None:
    # The exported graph computes in float32 whatever the training did.
    cfg, config_warnings = load_config(args.config, [*args.overrides, "solver.precision=fp32"], "predict")
    if not cfg.data.label_list:
        raise UserError(f"{args.config}: data.label_list: is required; give the CSV of class descriptions")

    # The heavy rooms come after the arguments, so that --help and a typo answer at once.
    from pathlib import Path

    import torch

    from datasets.build import build_window_reader
    from datasets.lists import read_labels
    from modules import export
    from modules.testing import load_tested_model
    from modules.validation import text_matrix
    from utils.distributed import Process
    from utils.files import atomic_path, check_writable
    from utils.hashing import content_hash, file_hash
    from utils.results import format_table
    from utils.runlog import open_log

    process = Process(0, 1, 0, torch.device("cpu"))
    log = open_log(process, config_warnings)
    out = Path(args.out or Path(args.weights).with_suffix(export.FORMATS[args.format].suffix))
    check_writable(out, "--out")

    # ---- the model, and the classes as a matrix
    names = read_labels(cfg.data.label_list, cfg.data.num_classes)
    tested = load_tested_model(cfg, names, args.weights, process)
    text = torch.from_numpy(text_matrix(tested.model, tested.text))
    model = export.VideoClassifier(tested.model, text).eval()

    # ---- what goes with them
    num_frames, input_size = cfg.data.num_frames, cfg.data.input_size
    about = {
        "class_names": names,
        "num_frames": num_frames,
        "resize_to": build_window_reader(cfg).transform.scale_size,
        "input_size": input_size,
        "embedding_size": text.shape[1],
        "config": cfg.model_dump(),
        "hashes": {
            "weights_file": file_hash(args.weights),
            "state_dict": content_hash(tested.model.state_dict()),
            "text_matrix": content_hash(text),
        },
    }

    # ---- the file, which takes its name when it agrees with the model here
    log.info("%s: %d frames of %dx%d, %d classes", args.weights, num_frames, input_size, input_size, len(names))
    clips = export.random_clips(2, num_frames, input_size)
    with atomic_path(out) as temporary:
        export.write_export(temporary, args.format, model, text, clips, about)
        found = export.measure_parity(temporary, args.format, model, num_frames, input_size)
        rows = [("clips", "logits differ by", "embeddings differ by", "same top-1")]
        rows += [(str(p[0]), f"{p[1]:.2g}", f"{p[2]:.2g} of the largest", f"{p[3]:.0%}") for p in found]
        log.info("%s", format_table(rows))
        export.check_parity(found, out)
    log.info(
        "%s: %.1f MB, within %g (logits) and %g (embeddings) of eager PyTorch",
        *(out, out.stat().st_size / 1e6, export.LOGIT_TOLERANCE, export.EMBEDDING_TOLERANCE),
    )


if __name__ == "__main__":
    sys.exit(run_story(main, parse_arguments()))
