"""The preprocessing of every model that open_clip lists, compared with open_clip's."""

from functools import cache

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image

from clip import pixels_of
from clip.names import OPENAI_NAMES
from datasets.build import Views, build_eval_loader, build_train_loader
from datasets.pyav_source import PyAVVideo
from datasets.transforms import EvalTransform, Resize, TrainTransform
from inference.windows import build_window_reader
from modules.build import build_model, load_clip_model
from modules.pixels import with_preprocessing
from tests.datasets.helpers import REAL_VIDEOS, VIDEOS_DIR, needs_real_videos, write_frames
from utils.errors import UserError
from utils.project_paths import REPOSITORY
from utils.schema import Config


def tag_settings(name: str, tag: str) -> PreprocessCfg:
    """What open_clip preprocesses a tag's images with; its factory merges them so."""
    size = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
    return PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(size=size), open_clip.get_pretrained_cfg(name, tag)))


def distinct_settings() -> dict[str, tuple[str, str]]:
    """One (model, tag) for each of the settings that open_clip's tags have."""
    found = {}
    for name, tag in open_clip.list_pretrained():
        if name in OPENAI_NAMES and tag == "openai":  # RN50 ...: the published recipe's, which is tested elsewhere
            continue
        found.setdefault(str(tag_settings(name, tag)), (name, tag))
    return {f"{name}:{tag}": (name, tag) for name, tag in found.values()}


SETTINGS = distinct_settings()


def our_settings(name: str, tag: str) -> tuple[EvalTransform, torch.Tensor, torch.Tensor]:
    """The evaluation transform of a config that names the tag alone, and mean and std, (3, 1, 1)."""
    cfg = with_preprocessing(Config.model_validate({"network": {"arch": name, "weights": tag}}))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (cfg.data.mean, cfg.data.std))
    return build_window_reader(cfg).transform, mean, std


def largest_difference(name: str, tag: str, frames: np.ndarray) -> float:
    """In levels of 0..255, over (N,H,W,3) uint8 frames."""
    transform, mean, std = our_settings(name, tag)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)[None]
    ours = (transform(pixels, 0, np.random.default_rng(0))[0][0].float() / 255 - mean) / std
    preprocess = image_transform_v2(tag_settings(name, tag), is_train=False)
    theirs = torch.stack([preprocess(Image.fromarray(frame)) for frame in frames])
    assert ours.shape == theirs.shape
    return float(((ours - theirs).abs() * std * 255).max())


def scene(height: int, width: int) -> np.ndarray:
    """(1, height, width, 3) uint8 with edges, gradients and texture."""
    y, x = np.mgrid[:height, :width] / 40
    rng = np.random.default_rng(0)
    waves = np.stack([np.sin(x * f + y * g) for f, g in ((1, 2), (3, 1), (7, 5))], axis=-1)
    edges = 60 * (np.sin(3 * x) * np.sin(2 * y) > 0)[..., None]
    return (110 + 50 * waves + edges + rng.normal(0, 4, (height, width, 3))).clip(0, 255).astype(np.uint8)[None]


@pytest.mark.parametrize("setting", SETTINGS)
def test_pixels_of_every_setting_equal_open_clips(setting):
    for height, width in ((256, 340), (426, 240)):
        assert largest_difference(*SETTINGS[setting], scene(height, width)) <= 0.01


@cache
def real_frames() -> list[np.ndarray]:
    """(3,H,W,3) uint8 of each clip."""
    found = []
    for name in REAL_VIDEOS:
        with PyAVVideo(VIDEOS_DIR / name) as source:
            frames = source.read(np.linspace(0, source.num_frames - 1, 3).astype(int))
        found.append(frames.permute(0, 2, 3, 1).numpy())
    return found


@needs_real_videos
@pytest.mark.parametrize("setting", SETTINGS)
def test_pixels_of_real_frames_equal_open_clips(setting):
    assert max(largest_difference(*SETTINGS[setting], frames) for frames in real_frames()) <= 0.01


def test_openais_names_and_files_keep_the_published_pixels(tmp_path):
    published = ("shortest", "bicubic", "torch", open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, True)
    for arch, weights in (("ViT-B/32", "openai"), ("RN50", "none"), ("ViT-L/14", "my.pt"), ("my/clip.pt", "openai")):
        assert pixels_of(arch, weights, 224) == (224, 256, *published)
        assert pixels_of(arch, weights, 336) == (336, 336, *published)
    assert pixels_of("ViT-L/14-336px", "openai").input_size == 336
    assert pixels_of("ViT-L/14", "laion2b_s32b_b82k")[1:] == pixels_of("ViT-L-14", "laion2b_s32b_b82k")[1:]
    assert pixels_of("ViT-L/14", "laion2b_s32b_b82k").mean == (0.5, 0.5, 0.5)
    # These names are open_clip's, too.
    both = [name for name in OPENAI_NAMES if (name, "openai") in open_clip.list_pretrained()]
    zoo = (REPOSITORY / "docs" / "model-zoo.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in zoo and pixels_of(f"{name}-quickgelu", "openai").resizer == "pillow" for name in both)
    # Random weights, of a model whose tags differ.
    assert not pixels_of("ViT-H-14", "none").is_certain


@pytest.mark.parametrize("height, width", [(40, 30), (31, 57), (32, 32)])
def test_resize_mode_longest_pads_like_open_clip(height, width):
    frames = scene(height, width)
    settings = PreprocessCfg(size=32, resize_mode="longest", mean=(0.0,) * 3, std=(1.0,) * 3)
    theirs = image_transform_v2(settings, is_train=False)(Image.fromarray(frames[0])) * 255
    evaluation = EvalTransform(Resize(32, "longest", resizer="pillow"), 32)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)[None]
    ours, _ = evaluation(pixels, 0, np.random.default_rng(0))
    torch.testing.assert_close(ours[0, 0].float(), theirs)
    clip, _ = TrainTransform(evaluation.resize, 32)(pixels, 0, np.random.default_rng(0))
    assert clip.shape == (1, 3, 32, 32)


def config_of_videos(folder, **data) -> Config:
    write_frames(folder / "v", 9, height=36, width=60)
    (folder / "list.txt").write_text("v 9 0\n")
    lists = {f"{side}_{key}": str(path) for side in ("train", "val") for key, path in
             (("root", folder), ("list", folder / "list.txt"))}  # fmt: skip
    data = {"num_segments": 4, "workers": 0, "num_classes": 1, "input_size": 32, **lists, **data}
    return Config.model_validate({"network": {"arch": "PE-Core-B-16", "weights": "none"}, "data": data})


def test_keys_override_the_towers_preprocessing_in_training_validation_and_prediction(tmp_path):
    cfg = with_preprocessing(config_of_videos(tmp_path))
    expected = Resize(32, "squash", "bilinear", "pillow")
    assert build_window_reader(cfg).transform == EvalTransform(expected, 32)
    assert build_eval_loader(cfg).dataset.transform == EvalTransform(expected, 32)
    assert build_train_loader(cfg).dataset.transform.resize == expected
    keys = {"resize_mode": "shortest", "resize_size": 40, "interpolation": "bicubic", "resizer": "torch"}
    other = with_preprocessing(cfg.model_copy(update={"data": cfg.data.model_copy(update=keys)}))
    assert build_eval_loader(other).dataset.transform == EvalTransform(Resize(40), 32)


def test_the_model_uses_mean_and_std_of_the_config():
    """The published CLIP model with other ones, as a checkpoint that is loaded with `weights: none` asks for."""
    network = {"arch": "clip/shapes_clip.pt", "sim_header": "None"}
    data = {"input_size": 64, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    cfg = with_preprocessing(Config.model_validate({"network": network, "data": data}))
    model = build_model(cfg, load_clip_model(cfg))
    levels = torch.tensor([51.0, 102.0, 153.0]).view(3, 1, 1)
    normalised = model.pixel_shift[0] + levels * model.pixel_scale[0]
    torch.testing.assert_close(normalised.flatten(), torch.tensor([0.25, 0.4, 0.5]))


def test_linspace_takes_the_same_frames_in_every_clip_with_a_warning(tmp_path):
    cfg = with_preprocessing(config_of_videos(tmp_path, frame_rule="linspace"))
    assert build_eval_loader(cfg).dataset._choose_frames(9, None).tolist() == [0, 2, 5, 8]
    assert build_eval_loader(cfg, views=Views(1, 3)).dataset._choose_frames(9, None).tolist() == [0, 2, 5, 8]
    with pytest.raises(UserError, match="linspace would use the same frames in all 4 clips"):
        build_eval_loader(cfg, views=Views(4))
