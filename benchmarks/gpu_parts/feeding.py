"""The number of loader processes that a GPU needs."""

import time

import torch

from benchmarks.gpu_parts.part import Figures, Found, Setting, expect
from benchmarks.gpu_parts.pictures import data_keys
from benchmarks.gpu_parts.training import make_config, make_trainer, model_on_cpu
from datasets.build import build_train_loader
from modules.training import Progress
from utils.cores import num_cores
from utils.schema import Config

ARCH, BATCH = "ViT-B/32", 64  # the model that trains the most clips per second
SECONDS = 1.5  # of each measurement
WARM_UP = 8  # steps in which pinned memory and the caches of all processes are filled
MODELS = ("B/32", "B/16", "L/14", "L/14-336")


def loader_processes(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Measure loaders with 1, 4, 8 ... processes, and training with as many processes as B/32 needs."""
    batch, num_clips = (2, 12) if setting.tiny else (BATCH, 40_000)
    keys = data_keys(setting, num_clips)
    counts = [1] if setting.tiny else [n for n in (1, 4, 8, 16, 32, 64) if n <= num_cores()]
    rates = {}
    for workers in counts:
        cfg = make_config(setting, ARCH, *keys, f"data.workers={workers}", batch=batch)
        rates[workers] = clips_per_second(cfg, setting.device)
    needs = {name: earlier[name]["clips_per_second"] for name in MODELS if name in earlier}
    enough = {name: next((n for n in counts if rates[n] >= need), None) for name, need in needs.items()}
    figures: Figures = {"clips_per_second": rates, "needs": needs, "workers": enough}
    text = "clips/s: " + ", ".join(f"{n} {rate:.0f}" for n, rate in rates.items())
    if enough:
        text += "; enough for " + ", ".join(f"{m}: {n or f'none of up to {counts[-1]}'}" for m, n in enough.items())
    workers = enough.get("B/32") or counts[-1]
    cfg = make_config(setting, ARCH, *keys, f"data.workers={workers}", batch=batch)
    figures |= train_from_files(cfg, setting)
    text += (
        f"; {ARCH} trains {figures['training_clips_per_second']:.0f} clips/s from {workers}, "
        f"waiting {figures['waiting_share']:.0%} of the time"
    )
    return Found(text, figures)


def clips_per_second(cfg: Config, device: str) -> float:
    """Speed of a training loader, including pixels that are computed on `device`."""
    loader = build_train_loader(cfg).to(torch.device(device))
    loader.start_epoch(0)
    num_clips, started = 0, 0.0
    for number, batch in enumerate(loader):
        if number <= cfg.data.workers:  # until all have started
            started = time.perf_counter()
            continue
        num_clips += len(batch["label"])
        if time.perf_counter() - started > SECONDS:
            break
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    loader.close()
    expect(num_clips > 0, "the epoch is too short to measure")
    return num_clips / seconds


def train_from_files(cfg: Config, setting: Setting) -> Figures:
    """Training speed in clips per second, and the share of the time spent waiting for the loader."""
    trainer = make_trainer(cfg, model_on_cpu(cfg), setting.device, "bf16")
    loader = build_train_loader(cfg).to(torch.device(setting.device))
    loader.start_epoch(0)
    num_clips, waited, started = 0, 0.0, time.perf_counter()
    for record in trainer.run_epoch(loader, Progress()):
        if record.step <= (2 if setting.tiny else WARM_UP):
            num_clips, waited, started = 0, 0.0, time.perf_counter()
            continue
        num_clips, waited = num_clips + record.num_clips, waited + record.wait_seconds
        if time.perf_counter() - started > 2 * SECONDS:
            break
    if setting.device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    loader.close()
    return {"training_clips_per_second": num_clips / seconds, "waiting_share": waited / seconds}
