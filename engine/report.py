"""`report.py`: writes an HTML report of a run, or of the differences between two."""

import argparse
from pathlib import Path

import torch

from datasets.build import Views, build_eval_loader, read_test_lists
from datasets.entries import Entries
from datasets.video_dataset import SampleKey
from inference.model import VideoModel, read_checkpoint
from modules.attribution import ShownClip
from modules.pixels import with_preprocessing
from reporting import comparison_page, run_page
from reporting.comparison.opening import rows_to_show as rows_of_two
from reporting.pairing import pair_tests
from reporting.run_folder import Run, TestResult, find_weights, read_run
from reporting.sections.strips import rows_to_show
from utils import distributed
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.odd_names import printable
from utils.progress import progress
from utils.terminal import print_error_line


def report(args: argparse.Namespace) -> None:
    """Write the page."""
    run = read_run(args.run)
    other = read_run(args.other) if args.other is not None else None
    pair = pair_tests(run, other, args.test) if other else None
    test = pair.first if pair else run.test_named(args.test)
    rows = rows_of_two(pair) if pair else rows_to_show(test)

    clips: dict[int, ShownClip | str] | str = "left out by --no_frames."
    if not args.no_frames:
        try:
            clips = read_clips(run, test, rows) if rows else {}
        except UserError as error:
            clips = str(error)  # also shown on the page; the other sections need only the table
            print_error_line(f"warning: no film strips: {error}")

    page = comparison_page(run, other, pair, clips) if other and pair else run_page(run, test, clips)
    out = Path(args.out or run.folder / (f"compare_{other.name}.html" if other else "report.html"))
    try:
        write_text_atomic(out, printable(page))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another file with --out") from error
    print(f"{out}  {out.stat().st_size / 1e6:.2f} MB; open it in a browser")


def read_clips(run: Run, test: TestResult, rows: list[int]) -> dict[int, ShownClip | str]:
    """The clips of some rows of a test's table with the contribution of each frame, or an error message per clip.

    Raises:
        UserError: the list of videos or the checkpoint is missing or has changed.
    """
    clips: dict[int, ShownClip | str] = {}
    cfg, weights = with_preprocessing(test.config), find_weights(test, run)
    entries = Entries(test.entries_of(rows, read_test_lists(cfg, test.lists).entries))
    views = Views(dense=test.scores["views"].get("dense"))
    loader = build_eval_loader(cfg, views=views, entries=entries, allow_missing=True)
    process = distributed.start()
    model = VideoModel(cfg, test.class_names, read_checkpoint(weights), process.device)
    text = torch.from_numpy(test.text).to(process.device)
    for place, row in enumerate(progress(rows, "film strips", unit="video", leave=False)):
        item = loader.dataset[SampleKey(0, place)]
        if item["fault"] is not None:
            clips[row] = item["fault"]
            continue
        assert item["frames"] is not None
        (frames,) = item["frames"]
        clips[row] = model.explain(frames, int(test.outcomes.predicted[row]), text)
    return clips
