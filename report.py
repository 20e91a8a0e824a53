"""Writes one self-contained HTML page about a run, or about two runs that were tested on the same videos."""

import argparse
import sys
from pathlib import Path

from utils.cli import run_story
from utils.errors import UserError
from utils.files import check_writable, write_text_atomic


def parse_arguments(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder of train.py, or the results folder of a test")
    parser.add_argument("other", metavar="RUN_B", nargs="?", help="compare RUN with this one, video by video")
    parser.add_argument("--test", metavar="NAME", help="the test to show in detail (default: that with most views)")
    parser.add_argument("--out", metavar="FILE", help="default: RUN/report.html, for two runs RUN/compare_RUN_B.html")
    parser.add_argument("--no_frames", action="store_true", help="no film strips: needs neither videos nor weights")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(arguments)


def main(args) -> None:
    if args.out:
        check_writable(args.out, "--out")

    # The heavy rooms come after the arguments, so that --help and a typo answer at once.
    import torch

    from datasets.build import build_eval_loader, read_test_lists
    from datasets.video_dataset import SampleKey
    from modules.attribution import drop_one_frame
    from modules.testing import load_tested_model
    from utils import distributed
    from utils.precision import autocast
    from utils.report.comparison import comparison_page, pair_tests
    from utils.report.run_folder import find_weights, read_run
    from utils.report.sections import rows_to_show, run_page
    from utils.report.strips import Clip

    run = read_run(args.run)

    # ---- two runs: tables alone
    if args.other is not None:
        other = read_run(args.other)
        page = comparison_page(run, other, pair_tests(run, other, args.test))
        out = Path(args.out or run.folder / f"compare_{other.name}.html")

    # ---- one run: the frames of a few videos, and the model once more, where both are still there
    else:
        test = run.test_named(args.test)
        clips: dict[int, Clip | str] | str = "left out by --no_frames."
        try:
            if not args.no_frames:
                rows, clips, cfg = rows_to_show(test), {}, test.config
                weights = find_weights(test, run)
                entries = test.entries_of(rows, read_test_lists(cfg, test.lists).entries)
                dense = test.scores["views"].get("dense")
                loader = build_eval_loader(cfg, testing=True, dense=dense, entries=entries, allow_missing=True)
                process = distributed.start()
                tested = load_tested_model(cfg, test.class_names, str(weights), process)
                text = torch.from_numpy(test.text).to(process.device)
                for place, row in enumerate(rows):
                    item = loader.dataset[SampleKey(0, place)]
                    if item["fault"]:
                        clips[row] = item["fault"]
                        continue
                    (frames,) = item["frames"].to(process.device)
                    with autocast(tested.precision, process.device):
                        predicted = int(test.outcomes.predicted[row])
                        added = drop_one_frame(tested.model, frames, text, predicted, cfg.data.batch_size)
                    clips[row] = Clip(frames.permute(0, 2, 3, 1).cpu().numpy(), added.numpy())
        except UserError as error:
            clips = str(error)  # the page says so too; all the rest needs the table alone
            print(f"warning: no film strips: {error}", file=sys.stderr)
        page = run_page(run, test, clips)
        out = Path(args.out or run.folder / "report.html")

    try:
        write_text_atomic(out, page)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); name another file: --out FILE") from error
    print(f"{out}  {out.stat().st_size / 1e6:.2f} MB; open it in a browser")


if __name__ == "__main__":
    sys.exit(run_story(main, parse_arguments()))
