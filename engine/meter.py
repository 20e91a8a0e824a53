"""Progress of a training epoch: progress bar, log lines, and a metrics record per step."""

import logging
import math
import resource
import time
from typing import NamedTuple

import torch

from datasets import FASTEST_READER
from engine.metrics_writer import MetricsWriter
from modules.training import StepRecord
from modules.validation import Validation
from utils.cores import num_cores
from utils.distributed import Process
from utils.runlog import progress_bar
from utils.schema import Config

WAIT_ADVICE_SHARE = 0.10  # share of time waiting for data from which advice is logged
WARM_UP_STEPS = 2  # first steps of a process, not counted in that share
log = logging.getLogger(__name__)


class EpochInfo(NamedTuple):
    """An epoch: its number (0-based), the number of remaining batches of this process, and its total number of clips.

    `is_packed`: whether the clips are packed files.
    """

    number: int
    num_batches: int
    num_clips: int
    is_packed: bool = False


class TrainingMeter:
    """Logs the steps of one epoch."""

    _has_advised = _has_logged_first = False  # once per process
    _num_warm_up = 0

    def __init__(self, cfg: Config, process: Process, metrics: MetricsWriter, epoch: EpochInfo):
        self._is_packed = epoch.is_packed
        self._cfg, self._process, self._metrics, self._epoch = cfg, process, metrics, epoch.number
        self._num_steps = math.ceil(epoch.num_batches / cfg.solver.grad_accumulation_steps)
        epoch_batches = math.ceil(epoch.num_clips / (cfg.data.batch_size * process.world_size))
        self._epoch_steps = math.ceil(epoch_batches / cfg.solver.grad_accumulation_steps)
        self._num_earlier = self._epoch_steps - self._num_steps  # steps before the run was resumed
        title = f"epoch {epoch.number + 1}/{cfg.solver.epochs}"
        self._bar = progress_bar(self._epoch_steps, "step", title, process, lines=False, initial=self._num_earlier)
        self._seen = self._num_skipped = 0
        self.is_stopped = False  # whether any process received a request to stop
        self._seconds = self._wait = 0.0
        self._since_line: list = []  # records
        self._started = time.perf_counter()

    def show(self, record: StepRecord) -> None:
        """Log a step."""
        self._seen += 1
        self._since_line.append(record)
        self.is_stopped = record.stop
        self._num_skipped += record.num_skipped
        if TrainingMeter._num_warm_up < WARM_UP_STEPS:
            TrainingMeter._num_warm_up += 1
        else:
            self._seconds += record.seconds
            self._wait += record.wait_seconds
        rate = record.num_clips / record.seconds
        wait_share = record.wait_seconds / record.seconds
        self._metrics.write(
            "train",
            record.step,
            epoch=self._epoch,
            loss=record.loss,
            **{f"lr_{name}": lr for name, lr in record.lrs.items()},
            seconds=round(record.seconds, 6),
            clips_per_second=round(rate, 3),
            wait_share=round(wait_share, 4),
            skipped_clips=record.num_skipped,
            peak_memory_mib=self._peak_memory_mib(),
        )
        self._bar.set_postfix_str(f"loss {record.loss:.3f}, {rate:.1f} clips/s", refresh=False)
        self._bar.update()
        if self._cfg.solver.compile and not TrainingMeter._has_logged_first:
            TrainingMeter._has_logged_first = True
            log.info("solver.compile: the first step took %.0f s, compilation included", record.seconds)
        if (self._num_earlier + self._seen) % self._cfg.logging.print_freq == 0 or self._seen == self._num_steps:
            self._print_line(record)

    def show_validation(self, num_epochs: int, step: int, validation: Validation) -> None:
        """Log the scores after `num_epochs` epochs; those of a set are recorded as `NAME_top1` ..."""
        for line in validation.describe():
            log.info("epoch %d validation: %s", num_epochs, line)
        of_sets = {}
        for name, scores in validation.by_set.items():
            of_sets |= {f"{name}_{score}": value for score, value in scores._asdict().items()}
        self._metrics.write("val", step, epoch=num_epochs, **validation.scores._asdict(), **of_sets)

    def close(self) -> None:
        """End the epoch; logs advice, once, if loading data is too slow."""
        self._bar.close()
        if self._num_skipped:
            log.info("epoch %d: %d clips were unreadable and replaced", self._epoch + 1, self._num_skipped)
        share = self._wait / self._seconds if self._seconds else 0.0
        if share > WAIT_ADVICE_SHARE and not TrainingMeter._has_advised:
            TrainingMeter._has_advised = True
            log.info("%.0f%% of the time was spent waiting for data: %s", 100 * share, self._advice())

    def _print_line(self, record: StepRecord) -> None:
        """Loss and learning rates of the last step; clips/s and share of waiting since the previous line."""
        seconds = sum(r.seconds for r in self._since_line)
        rate = sum(r.num_clips for r in self._since_line) / seconds
        wait_share = sum(r.wait_seconds for r in self._since_line) / seconds
        self._since_line.clear()
        elapsed = time.perf_counter() - self._started
        step_seconds = elapsed / self._seen
        left_in_epoch = step_seconds * (self._num_steps - self._seen)
        epochs_left = self._cfg.solver.epochs - self._epoch - 1
        left_in_run = left_in_epoch + step_seconds * self._epoch_steps * epochs_left  # validations not counted
        lrs = " ".join(f"{name} {lr:.2e}" for name, lr in record.lrs.items())
        log.info(
            f"epoch {self._epoch + 1}/{self._cfg.solver.epochs} step {self._num_earlier + self._seen}"
            f"/{self._epoch_steps}  "
            f"loss {record.loss:.4f}  lr {lrs}  {rate:.1f} clips/s  data {wait_share:.0%}  "
            f"epoch ends in {_clock(left_in_epoch)}, run in {_clock(left_in_run)}"
        )

    def _advice(self) -> str:
        data = self._cfg.data
        if data.cached_draws:
            return "put logging.cache_dir, which has the frame embeddings, on a faster local disk"
        if data.workers < (cores := num_cores()):
            remedies = [f"raise data.workers (now {data.workers} per process), up to {cores}"]
        else:
            remedies = [f"run on more processor cores (data.workers={data.workers} uses all of them)"]
        if data.modality == "video":
            if not self._is_packed:
                remedies.append("pack the videos (python -m tools.pack_videos), which are then much faster to sample")
            if not self._is_packed and data.decoder != FASTEST_READER:
                remedies.append(f"set data.decoder={FASTEST_READER}, the fastest reader")
        else:
            remedies.append(
                "store frames with a short side close to data.input_size (python -m tools.extract_frames --short_side)"
            )
        return "; ".join(remedies)

    def _peak_memory_mib(self) -> int:
        """Peak memory in MiB: of the GPU, or the resident memory of this process on a CPU."""
        if self._process.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._process.device) >> 20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10  # Linux counts KiB


def _clock(seconds: float) -> str:
    """HH:MM:SS, with more than 24 hours if needed."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
