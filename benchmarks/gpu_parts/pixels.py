"""Compares pixels that are computed on the device with the CPU's, and measures the speed."""

import itertools
import traceback
from dataclasses import replace

import numpy as np
import torch

from benchmarks.gpu_parts.feeding import clips_per_second, train_from_files
from benchmarks.gpu_parts.part import Figures, Found, Setting, Skipped, expect
from benchmarks.gpu_parts.pictures import data_keys
from benchmarks.gpu_parts.speed import seconds_of
from benchmarks.gpu_parts.training import make_config
from datasets import device_videos
from datasets.augmentations.augmentation import Operation
from datasets.augmentations.color_jitter import ColorJitter
from datasets.augmentations.randaug import RandAug
from datasets.build import Views, build_eval_loader, build_train_loader, input_size, train_transform
from datasets.device_pixels import train_pixels
from datasets.device_videos import fault_of
from datasets.transforms import Draw, Resize
from datasets.video_dataset import SampleKey
from utils.cores import num_cores
from utils.data_sections import ColorJitterConfig
from utils.errors import UserError, first_line
from utils.schema import Config

COMBINED = "all augmentations"
ARCH, BATCH, NUM_CLIPS, WORKERS = "ViT-B/32", 64, 40_000, 4
AUGMENTED = (
    "data.randaug.N=2", "data.randaug.M=9", "data.color_jitter.prob=0.5", "data.erasing.prob=0.5", "data.grayscale=0.3",
)  # fmt: skip
MAX_LEVELS = 1  # maximum error of a level, of 255
MAX_SHARE_OFF = 1e-5  # share of the levels with larger errors, where an operation amplifies the error of an earlier one
# Levels of brightness, for nvJPEG: it repeats the subsampled colours, which libjpeg-turbo interpolates; brightness is
# not affected. The difference is largest for our frames of random colours: mean 2.6, maximum 45 on an H100.
MAX_MEAN_LUMA = 1.0
# For videos about 0.77 is expected, because torchcodec's CUDA kernel truncates colours to integers, and 1.27 if it
# rounds.
MAX_MEAN_LUMA_OF_VIDEOS = 1.5
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
PLACES = {
    "cpu": (),
    "device": ("data.pixels_on=device",),
    "device, JPEG too": ("data.pixels_on=device", "data.decode_on=device"),
}


def pixels(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Compare training batches with all augmentations, test views and each operation with the CPU's; measure speeds."""
    batch, num_clips = (2, 12) if setting.tiny else (BATCH, NUM_CLIPS)
    keys = [*data_keys(setting, num_clips), f"data.workers={min(WORKERS, num_cores())}"]

    def config(*more: str) -> Config:
        return make_config(setting, ARCH, *keys, *more, batch=batch)

    figures: Figures = {"operations": _operations(config(), setting.device)}
    for name, more in (("training", ()), (COMBINED, AUGMENTED)):
        figures[name] = _batch_difference(config(*more), config(*more, *PLACES["device"]), setting.device)
    figures["made by the loader processes"] = _batch_difference(config(), config(), setting.device)
    figures["3 crops of 2 clips"] = _view_difference(config(), config(*PLACES["device"]), setting)
    text = "; ".join(f"{name}: {_describe(found)}" for name, found in figures.items())
    is_close = all(
        found["largest"] <= MAX_LEVELS or (name == COMBINED and found["share over 1"] <= MAX_SHARE_OFF)
        for name, found in figures.items()
    )
    decoded = _jpeg_difference(config(), config(*PLACES["device, JPEG too"]), setting.device)
    figures["JPEG"] = decoded
    text += f"; JPEG decoding: {decoded['error'] if 'error' in decoded else _describe(decoded)}"
    is_close &= "error" in decoded or decoded["mean of luma"] <= MAX_MEAN_LUMA
    figures |= _cost(config(*PLACES["device"]), setting.device)
    text += f"; {config().data.batch_size} clips take {figures['milliseconds of a batch']:.1f} ms on the device"
    text += f", waiting for it: {figures['waits']}"
    for name, place in PLACES.items():
        if "error" in decoded and "JPEG" in name:
            continue
        cfg = config(*place)
        rate = clips_per_second(cfg, setting.device)
        figures[f"rates, {name}"] = {"loader": rate} | train_from_files(cfg, setting)
        trained = figures[f"rates, {name}"]
        text += (
            f"; {name}: {rate:.0f} clips/s from {cfg.data.workers} processes, {ARCH} trains "
            f"{trained['training_clips_per_second']:.0f}, waiting {trained['waiting_share']:.0%}"
        )
    expect(is_close, text)
    expect(figures["waits"] == "no", text)
    return Found(text, figures)


def videos(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Compare training batches of H.264 files decoded on the device with the CPU's; measure speeds."""
    if fault := fault_of(torch.device(setting.device)):
        raise Skipped(f"torchcodec cannot decode on {setting.device} ({fault})")
    batch, num_clips = (2, 12) if setting.tiny else (16, NUM_CLIPS)
    keys = [*data_keys(setting, num_clips, videos=True), f"data.workers={min(WORKERS, num_cores())}"]
    cfgs = {
        name: make_config(setting, ARCH, *keys, *PLACES[place], batch=batch)
        for name, place in (("loader processes", "cpu"), ("device", "device, JPEG too"))
    }
    figures: Figures = {"frames": _batch_difference(cfgs["loader processes"], cfgs["device"], setting.device)}
    text = f"H.264: {_describe(figures['frames'])}"
    for name, cfg in cfgs.items():
        figures[f"rate, {name}"] = clips_per_second(cfg, setting.device)
        text += f"; decoded by {name}: {figures[f'rate, {name}']:.0f} clips/s from {cfg.data.workers} processes"
    on_cpu = sorted(device_videos.decoded_on_cpu)
    is_close = figures["frames"]["mean of luma"] <= MAX_MEAN_LUMA_OF_VIDEOS
    expect(is_close and not on_cpu, f"{text}; on the CPU: {on_cpu}")
    return Found(text, figures)


def _difference(found: torch.Tensor, expected: torch.Tensor) -> Figures:
    signed = found.cpu().int() - expected.int()  # (...,C,S,S)
    off, luma = signed.abs(), torch.einsum("...chw,c->...hw", signed.float(), torch.tensor(LUMA)).abs()
    return {
        "largest": int(off.max()),
        "mean": float(off.double().mean()),
        "mean of luma": float(luma.double().mean()),
        "share over 1": float((off > MAX_LEVELS).double().mean()),
    }


def _describe(found: Figures) -> str:
    if found["largest"] == 0:
        return "equal"
    mean = f"mean {found['mean']:.2g} (of luma {found['mean of luma']:.2g})"
    return f"largest {found['largest']} levels, {mean}, over one {found['share over 1']:.1g}"


def _third_frames(cfg: Config, device: str) -> torch.Tensor:
    loader = build_train_loader(cfg).to(torch.device(device))
    loader.start_epoch(0)
    frames = next(itertools.islice(loader, 2, None))["frames"]  # the third batch may reuse the memory of the first
    loader.close()
    return frames


def _batch_difference(on_cpu: Config, on_device: Config, device: str) -> Figures:
    return _difference(_third_frames(on_device, device), _third_frames(on_cpu, "cpu"))


def _jpeg_difference(on_cpu: Config, on_device: Config, device: str) -> Figures:
    """Difference between training batches decoded on the device and on the CPU, or the error of the device's
    decoder."""
    try:
        found = _third_frames(on_device, device)
    except UserError as error:
        return {"error": str(error)}
    return _difference(found, _third_frames(on_cpu, "cpu"))


def _view_difference(on_cpu: Config, on_device: Config, setting: Setting) -> Figures:
    loaders = [build_eval_loader(cfg, views=Views(2, 3)) for cfg in (on_cpu, on_device)]
    loaders[1].to(torch.device(setting.device))
    videos = [[loader.views(clip) for clip in next(iter(loader))["frames"] if clip is not None] for loader in loaders]
    for loader in loaders:
        loader.close()
    return _difference(torch.cat(videos[1]), torch.cat(videos[0]))


def _operations(cfg: Config, device: str) -> Figures:
    """Largest difference over all single operations of RandAugment and colour jitter."""
    size = input_size(cfg)
    transform = replace(train_transform(cfg), resize=Resize(size))
    operations: list[Operation] = []
    for kind, num_seeds in ((RandAug(4, 9), 60), (ColorJitter(ColorJitterConfig(prob=1.0)), 4)):
        drawn = {one for seed in range(num_seeds) for one in kind.draw(size, np.random.default_rng(seed))}
        operations += [Operation(kind, one) for one in sorted(drawn)]
    clip = next(iter(build_eval_loader(cfg)))["frames"][0]
    assert clip is not None
    frames = clip[0][:2]  # two frames are enough
    draws = [Draw((0, 0, size, size), (size, size), operations=(one,)) for one in operations]
    expected = torch.stack([transform.apply(frames, draw) for draw in draws])
    stored = frames.to(device)
    return _difference(train_pixels([stored] * len(draws), draws, transform), expected)


def _cost(cfg: Config, device: str) -> Figures:
    """Milliseconds to compute the pixels of a batch whose frames are on the device, with the default augmentations, and
    the line at which the CPU waits for the device, if any."""
    dataset = build_train_loader(cfg).dataset
    clips, draws = [], []
    for number in range(cfg.data.batch_size):
        item = dataset.stored(SampleKey(0, number))
        assert item["frames"] is not None and item["stored"] is not None and item["stored"].draw is not None
        clips.append(item["frames"][0].to(device))
        draws.append(item["stored"].draw)

    def make() -> torch.Tensor:
        return train_pixels(clips, draws, train_transform(cfg))

    milliseconds, waits = 1e3 * seconds_of(make, device, 5), "no"
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            make()
        except RuntimeError as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            waits = f"{first_line(error)} ({place.name}:{place.lineno})"
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return {"milliseconds of a batch": milliseconds, "waits": waits}
