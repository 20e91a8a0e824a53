"""The shipped recipes are complete and load, and have the published settings and headers with their commands."""

import argparse
import re
import shlex
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest

from datasets.augmentations.erasing import Erasing
from datasets.augmentations.grayscale import Grayscale
from datasets.augmentations.randaug import RandAug
from datasets.build import first_resize, train_transform
from datasets.lists import read_labels
from datasets.transforms import Resize, TrainTransform
from engine.rundir import default_run_dir
from modules.pixels import with_preprocessing
from tools.annotation_folders import ANNOTATED
from utils.config import load_config

REPO = Path(__file__).resolve().parents[1]
CONFIGS = REPO / "configs"
RECIPES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("**/*.yaml"))
PUBLISHED_SETS = ("k400", "k600", "anet", "ucf101", "hmdb51")
# Image-text models without training: open_clip's model and tag, published top-1 on Kinetics-400.
IMAGE_TEXT = {
    "k400/zero_shot_pe_core_b16.yaml": ("PE-Core-B-16", "meta", "65.6"),
    "k400/zero_shot_pe_core_l14_336.yaml": ("PE-Core-L-14-336", "meta", "73.4"),
    "k400/zero_shot_pe_core_g14_448.yaml": ("PE-Core-bigG-14-448", "meta", "76.9"),
    "k400/zero_shot_siglip2_b16.yaml": ("ViT-B-16-SigLIP2", "webli", "58.7"),
    "k400/zero_shot_siglip2_l16_384.yaml": ("ViT-L-16-SigLIP2-384", "webli", "65.3"),
    "k400/zero_shot_siglip2_gopt16_384.yaml": ("ViT-gopt-16-SigLIP2-384", "webli", "69.8"),
}
OF_PUBLISHED_SETS = [name for name in RECIPES if name.split("/")[0] in PUBLISHED_SETS and name not in IMAGE_TEXT]
ZERO_SHOT = [name for name in RECIPES if "zero_shot" in name or name == "shapes/zeroshot.yaml"]
TRAINED = [name for name in OF_PUBLISHED_SETS if name not in ZERO_SHOT]

# Differences of training clips from the published system's own recipes.
OTHER_CLIPS = {
    **dict.fromkeys(
        ["tuning/k400_aim_vitb-16-f8.yaml", "tuning/k400_aim_vitl-14-f32.yaml", "tuning/diving48_aim_vitb-16-f32.yaml"],
        {"resize": Resize(224), "augmentations": (Grayscale(0.0),)},
    ),
    "tuning/ssv2_aim_vitb-16-f8.yaml": {
        "resize": Resize(224), "flip_prob": 0,
        "augmentations": (RandAug(4, 7), Grayscale(0.0), Erasing(0.25, (0.02, 0.33))),
    },
    "tuning/ssv2_st_adapter_vitb-16-f8.yaml": {
        "resize": Resize(224), "flip_prob": 0, "augmentations": (RandAug(4, 7), Grayscale(0.0)),
    },
    "tuning/k400_st_adapter_vitb-16-f8.yaml": {
        "resize": Resize(224), "area_range": (0.55, 0.75), "augmentations": (Grayscale(0.0),),
    },
}  # fmt: skip
OTHER_SETS = {data_set.dataset: name for name, data_set in ANNOTATED.items()} | {"hacs": "hacs"}
FEW_SHOT = [name for name in TRAINED if "few_shot" in name]

# arch, frames, published score, crops, clips.
KINETICS_400 = {
    "k400/k400_train_rgb_vitb-32-f8.yaml": ("ViT-B/32", 8, "80.0 % top-1", 3, 4),
    "k400/k400_train_rgb_vitb-32-f16.yaml": ("ViT-B/32", 16, "80.5 % top-1", 3, 4),
    "k400/k400_train_rgb_vitb-16-f8.yaml": ("ViT-B/16", 8, "82.9 % top-1", 3, 4),
    "k400/k400_train_rgb_vitb-16-f16.yaml": ("ViT-B/16", 16, "83.6 % top-1", 3, 4),
    "k400/k400_train_rgb_vitl-14-f8.yaml": ("ViT-L/14", 8, "86.4 % top-1", 3, 4),
    "k400/k400_train_rgb_vitl-14-336-f8.yaml": ("ViT-L/14-336px", 8, "87.1 % top-1", 3, 4),
    "k400/k400_train_rgb_vitl-14-336-f32.yaml": ("ViT-L/14-336px", 32, "87.8 % top-1", 3, 1),
}
PUBLISHED = KINETICS_400 | {
    "anet/anet_k400_finetune.yaml": ("ViT-L/14", 16, "96.5 % mAP", 1, 1),
    "anet/anet_k400_finetune_336.yaml": ("ViT-L/14-336px", 16, "96.9 % mAP", 1, 1),
    "ucf101/ucf_k400_finetune.yaml": ("ViT-L/14", 16, "98.1 % top-1", 1, 1),
    "hmdb51/hmdb_k400_finetune.yaml": ("ViT-L/14", 16, "81.3 % top-1", 1, 1),
}

# Zero-shot with the 8-frame ViT-L/14 of Kinetics-400.
PUBLISHED_ZERO_SHOT = {
    "ucf101/ucf_zero_shot.yaml": "79.6 % top-1 on all classes",
    "hmdb51/hmdb_zero_shot.yaml": "49.8 % top-1 on all classes",
    **{f"k600/k600_zero_shot_split{n}.yaml": "68.9 +- 1.0 % top-1 over the three splits" for n in (1, 2, 3)},
}
# Clips per batch and process, and batches per step, if they are not 32 and 1.
PUBLISHED_BATCHES = {
    "k400/k400_train_rgb_vitb-16-f16.yaml": (16, 2),
    "k400/k400_train_rgb_vitl-14-f8.yaml": (8, 2),
    "k400/k400_train_rgb_vitl-14-336-f8.yaml": (2, 4),
    "k400/k400_train_rgb_vitl-14-336-f32.yaml": (1, 8),
    **dict.fromkeys(FEW_SHOT, (8, 1)),
    **{name: (4, 2) for name in TRAINED if name.endswith("k400_finetune.yaml")},
    **{name: (1, 8) for name in TRAINED if name.endswith("k400_finetune_336.yaml")},
}


def load(name):
    return load_config(CONFIGS / name, purpose="test" if name in ZERO_SHOT else "train")


def header(name):
    """The comment lines before the first key, without their `#`."""
    lines = (CONFIGS / name).read_text(encoding="utf-8").split("\n")
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").strip() for line in lines[:end]]


def header_line(name, start):
    found = [line.removeprefix(start).strip() for line in header(name) if line.startswith(start)]
    assert len(found) == 1, f"{name}: {len(found)} header lines start with {start}"
    return found[0]


def view_options(command):
    parser = argparse.ArgumentParser()
    parser.add_argument("--test_crops", type=int)
    parser.add_argument("--test_clips", type=int)
    options, _ = parser.parse_known_args(shlex.split(command))
    return options.test_crops, options.test_clips


def test_set_of_recipes_is_complete():
    fine_tuned = {
        f"{folder}/{dataset}_{kind}.yaml"
        for folder, dataset in (("anet", "anet"), ("ucf101", "ucf"), ("hmdb51", "hmdb"))
        for kind in ("k400_finetune", "k400_finetune_336", "few_shot", "zero_shot")
    }
    kinetics_400 = {*KINETICS_400, "k400/k400_train_rgb_rn50.yaml", "k400/k400_few_shot.yaml"}
    zero_shot = {f"k600/k600_zero_shot_split{split}.yaml" for split in (1, 2, 3)}
    assert set(OF_PUBLISHED_SETS) == kinetics_400 | zero_shot | fine_tuned


@pytest.mark.parametrize("name", IMAGE_TEXT)
def test_image_text_models_are_tested_by_pe_cores_protocol(name):
    """With their own pixels and text: 8 frames by linspace, the mean of their embeddings, several prompts."""
    arch, tag, score = IMAGE_TEXT[name]
    cfg = load(name).config
    assert (cfg.network.arch, cfg.network.weights) == (arch, tag) and tag in open_clip.list_pretrained_tags_by_model(
        arch
    )
    assert (cfg.data.num_segments, cfg.data.frame_rule) == (8, "linspace")
    assert (cfg.network.sim_header, cfg.network.prompt_set) == ("None", "action28")
    assert header_line(name, "Score:").startswith(f"published {score} % top-1 (")
    pixels = with_preprocessing(cfg).data
    assert pixels.resize_mode == "squash" and pixels.resize_size == pixels.input_size
    assert pixels.interpolation == ("bilinear" if tag == "meta" else "bicubic")
    assert name.removesuffix(".yaml").endswith(str(pixels.input_size)) or pixels.input_size == 224


def test_names_differ_between_folders():
    # Default folders of runs and tests contain only the file name of the config.
    assert len({Path(name).stem for name in RECIPES}) == len(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_loads_without_warnings(name):
    assert load(name).warnings == []


@pytest.mark.parametrize("name", OF_PUBLISHED_SETS)
def test_num_classes_is_that_of_the_label_list(name):
    data = load(name).config.data
    assert data.label_list.startswith("lists/")
    assert len(read_labels(REPO / data.label_list)) == data.num_classes


@pytest.mark.parametrize("name", RECIPES)
def test_header_has_commands_that_name_the_recipe(name):
    is_half_and_full = name in ZERO_SHOT and not name.startswith("k600/")
    commands = {"Test:": "scripts/run_test_zeroshot.sh" if is_half_and_full else "scripts/run_test.sh"}
    if name not in ZERO_SHOT:
        commands["Train:"] = "scripts/run_train.sh"
    if name in IMAGE_TEXT:
        assert header_line(name, "Test:") == f"python test.py --config configs/{name}"
        return
    for start, script in commands.items():
        words = shlex.split(header_line(name, start))
        assert words[:3] == ["sh", script, f"configs/{name}"]


@pytest.mark.parametrize("name", RECIPES)
def test_header_states_the_score(name):
    score = header_line(name, "Score:")
    if name in PUBLISHED:
        _, _, published, crops, clips = PUBLISHED[name]
        views = f"{crops} crop{'s' * (crops > 1)} x {clips} clip{'s' * (clips > 1)}"
        assert score == f"published {published} with {views}; not reproduced here."
    elif name in PUBLISHED_ZERO_SHOT:
        assert score == f"published {PUBLISHED_ZERO_SHOT[name]} (as others cite it); not reproduced here."
    elif name in OF_PUBLISHED_SETS:
        assert score == "no published score; not reproduced here."
    else:
        assert re.search(r"\d", score) or score.startswith("no published score; ")
        assert re.search("(measured|reproduced) here", score)


@pytest.mark.parametrize("name", PUBLISHED)
def test_tests_with_the_published_model_and_views(name):
    arch, num_frames, score, crops, clips = PUBLISHED[name]
    config = load(name).config
    assert (config.network.arch, config.data.num_segments) == (arch, num_frames)
    assert config.data.input_size == (336 if "336" in arch else 224)
    command = header_line(name, "Test:")
    assert view_options(command) == ((None, None) if (crops, clips) == (1, 1) else (crops, clips))
    assert ("--metric map" in command) == ("mAP" in score)


@pytest.mark.parametrize("name", OF_PUBLISHED_SETS)
def test_model_is_the_published_one(name):
    network = load(name).config.network
    assert (network.tm, network.joint_st) == (False, False)
    assert network.sim_header == ("None" if name in FEW_SHOT else "Transf")
    assert (network.init, network.fix_text, network.fix_video) == (True, True, False)
    assert network.prompt == "a video of a person {}."


@pytest.mark.parametrize("name", [*TRAINED, *OTHER_CLIPS])
def test_pixels_of_training_and_validation_are_the_published_ones(name):
    cfg = with_preprocessing(load(name).config)
    size = cfg.data.input_size
    expected = TrainTransform(Resize(256 if size == 224 else size), size, augmentations=(Grayscale(0.2),))
    expected = replace(expected, **OTHER_CLIPS.get(name, {}))
    assert train_transform(cfg) == expected
    assert first_resize(cfg) == expected.resize


@pytest.mark.parametrize("name", TRAINED)
def test_optimisation_is_the_published_one(name):
    config = load(name).config
    solver = config.solver
    assert (solver.optim, solver.lr, solver.clip_ratio, solver.weight_decay) == ("adamw", 5e-5, 0.1, 0.2)
    assert (solver.type, solver.epochs, solver.lr_warmup_step, solver.loss_type) == ("cosine", 30, 5, "CE")
    assert (config.data.randaug.N, config.data.area_range) == (0, [0.08, 1.0])
    assert (config.data.batch_size, solver.grad_accumulation_steps) == PUBLISHED_BATCHES.get(name, (32, 1))
    assert config.data.shot == 2 * (name in FEW_SHOT)
    assert config.logging.eval_freq == (1 if name.startswith("k400/") else 5)


@pytest.mark.parametrize("name", [*TRAINED, "methods/vcs_charades_vitl-14-336-f16.yaml"])
def test_fine_tuning_starts_from_a_kinetics_400_run_of_the_same_tower_and_frames(name):
    config = load(name).config
    if "finetune" not in name and "charades" not in name:
        assert config.pretrain is None
        return
    script, recipe, *overrides = shlex.split(header_line(name, "pretrain: written by sh "))
    assert script == "scripts/run_train.sh"
    start = load_config(REPO / recipe, overrides).config
    assert config.pretrain == f"{default_run_dir(start)}/last_model.pt"
    assert (start.network.arch, start.data.input_size) == (config.network.arch, config.data.input_size)
    assert start.data.num_frames == config.data.num_frames == 16


LISTS = {
    "k400": ("k400/kinetics_rgb_train_se320.txt", "k400/kinetics_rgb_val_se320.txt"),
    "anet": ("anet/anet_train_instance_fps1.txt", "anet/anet_val_video_fps1.txt"),
    "ucf101": ("ucf101/train_rgb_split_1.txt", "ucf101/val_rgb_split_1.txt"),
    "hmdb51": ("hmdb51/train_rgb_split_1.txt", "hmdb51/val_rgb_split_1.txt"),
}
ZERO_SHOT_LISTS = {
    "anet": "anet/anet_full_for_zeroshot.txt",
    "ucf101": "ucf101/ucf_full_for_zeroshot.txt",
    "hmdb51": "hmdb51/hmdb_full_for_zeroshot.txt",
}


@pytest.mark.parametrize("name", OF_PUBLISHED_SETS)
def test_lists_are_named_as_in_the_published_system(name):
    folder, data = name.split("/")[0], load(name).config.data
    assert data.dataset == folder
    if name in TRAINED:
        assert (data.train_list, data.val_list) == tuple(f"lists/{path}" for path in LISTS[folder])
    elif folder == "k600":
        number = re.search(r"split(\d)", name)[1]
        assert data.val_list == f"lists/k600/test_split{number}_exist.txt"
        assert data.label_list == f"lists/k600/k160_labels_split{number}.csv"
    else:
        assert data.val_list == f"lists/{ZERO_SHOT_LISTS[folder]}"


def options_of(page, tool, word):
    """Words and options of the only command of a page that calls a tool with the argument `word`."""
    lines = [line for line in page.splitlines() if line.startswith(f"python -m tools.{tool} ")]
    (words,) = [words for words in map(shlex.split, lines) if word in words]
    return words, {name: value for name, value in zip(words, words[1:]) if name.startswith("--")}


@pytest.mark.parametrize("name", OF_PUBLISHED_SETS)
def test_the_data_page_creates_roots_frames_and_lists(name):
    """After the commands of docs/data.md, the recipes work without changes.

    The names of the lists are those of tests/tools/test_make_lists_official.py, or the command's own.
    """
    folder, data = name.split("/")[0], load(name).config.data
    page = (REPO / "docs/data.md").read_text(encoding="utf-8")
    _, options = options_of(page, "make_lists", f"lists/{folder}")
    assert data.val_root == options["--root"]
    assert data.modality == ("video" if options.get("--kind") == "video" else "RGB")
    if name in TRAINED:
        assert data.train_root == options.get("--instances", options["--root"])
    if "--name" in options:
        made = [options["--name"].replace("{part}", part) for part in ("train", "val")]
        expected = re.sub(r"split\d", "split1", data.val_list)  # the page has the first of three
        assert expected in [f"lists/{folder}/{stem}.txt" for stem in made]
    if data.modality == "RGB":
        _, cutting = options_of(page, "extract_frames", data.val_root)
        template = options.get("--template", "img_{:05d}.jpg")
        assert data.image_tmpl == template == cutting.get("--template", "img_{:05d}.jpg")
        assert data.index_bias == 1


@pytest.mark.parametrize("name", [name for name in RECIPES if load(name).config.data.dataset in OTHER_SETS])
def test_recipes_of_other_sets_use_the_lists_of_make_lists(name):
    """With the names of docs/data.md: NAME_frames, lists/NAME."""
    data = load(name).config.data
    key = OTHER_SETS[data.dataset]
    assert f"| `{key}` |" in (REPO / "docs/data.md").read_text(encoding="utf-8")
    assert {data.train_root, data.val_root} == {f"{key}_frames"} | ({""} if name in ZERO_SHOT else set())
    assert data.train_list == (None if name in ZERO_SHOT else f"lists/{key}/train.txt")
    assert (data.val_list, data.label_list) == (f"lists/{key}/val.txt", f"lists/{key}/labels.csv")
    assert data.multi_label == (key == "charades")
    assert data.crop is not None or "something" not in data.dataset  # nothing depends on the name of the data set


# docs/model-zoo.md


def zoo_page():
    return (REPO / "docs/model-zoo.md").read_text(encoding="utf-8")


def test_model_zoo_lists_each_published_score():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in zoo_page().split("\n")]
    rows = [row for row in rows if len(row) == 7 and "configs/" in row[5]]
    found = {}
    for _, arch, frames, views, score, recipe, _ in rows:
        crops, clips = views.split(" x ")
        path = re.search(r"\(\.\./configs/(.+)\)", recipe)[1]
        found[path] = (arch, int(frames.split()[0]), f"{score.split()[0]} % {score.split()[1]}", int(crops), int(clips))
    assert found == PUBLISHED


def test_model_zoo_lists_each_published_zero_shot_score():
    scores = {}
    for line in zoo_page().split("\n"):
        for path in re.findall(r"\(\.\./configs/([^)]*zero_shot[^)]*)\)", line):
            scores[path] = line.split("|")[2].split(" top-1")[0].strip()
    scores.pop("anet/anet_zero_shot.yaml")
    scores = {name: score for name, score in scores.items() if name not in IMAGE_TEXT}
    assert scores == {name: score.split(" %")[0] for name, score in PUBLISHED_ZERO_SHOT.items()}


def test_model_zoo_commands_are_those_of_the_headers():
    commands = re.findall(r"^sh scripts/run_test\.sh .*$", zoo_page(), re.MULTILINE)
    assert {command.split()[2] for command in commands} == {f"configs/{name}" for name in PUBLISHED}
    for command in commands:
        name = command.split()[2].removeprefix("configs/")
        assert command == header_line(name, "Test:")


def test_model_zoo_names_every_recipe_of_the_published_sets():
    named = set(re.findall(r"configs/([\w-]+/[\w-]+\.yaml)", zoo_page()))
    assert named == {*OF_PUBLISHED_SETS, *IMAGE_TEXT}


@pytest.mark.parametrize("name", IMAGE_TEXT)
def test_model_zoo_lists_each_image_text_model(name):
    arch, tag, score = IMAGE_TEXT[name]
    (row,) = [line for line in zoo_page().split("\n") if f"(../configs/{name})" in line]
    assert row.startswith(f"| `{arch}` ({tag}) | {score} |")


def test_model_zoo_marks_its_commands():
    blocks = re.findall(r"```sh\n(.*?)```", zoo_page(), re.DOTALL)
    assert blocks
    assert all(block.startswith("# needs the data set") for block in blocks)
