"""The shipped recipes: complete, loadable, as published, and with headers that say how to use them."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from datasets.lists import read_labels
from utils.config import load_config

REPO = Path(__file__).resolve().parents[1]
CONFIGS = REPO / "configs"
RECIPES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("**/*.yaml"))
PUBLISHED_SETS = ("k400", "k600", "anet", "ucf101", "hmdb51")
OF_PUBLISHED_SETS = [name for name in RECIPES if name.split("/")[0] in PUBLISHED_SETS]
ZERO_SHOT = [name for name in RECIPES if "zero_shot" in name or name == "shapes/zeroshot.yaml"]
TRAINED = [name for name in OF_PUBLISHED_SETS if name not in ZERO_SHOT]

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
    "ucf101/ucf_k400_finetune.yaml": ("ViT-L/14", 16, "98.1 % top-1", 3, 4),
    "hmdb51/hmdb_k400_finetune.yaml": ("ViT-L/14", 16, "81.3 % top-1", 3, 4),
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
    zero_shot = {f"k600/k600_zero_shot_split{split}.yaml" for split in (1, 2, 3)}
    assert set(OF_PUBLISHED_SETS) == set(KINETICS_400) | {"k400/k400_train_rgb_rn50.yaml"} | zero_shot | fine_tuned


def test_names_differ_between_folders():
    # A run's folder and a test's results are named after the file alone.
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
    commands = {"Test:": "scripts/run_test_zeroshot.sh" if name in ZERO_SHOT else "scripts/run_test.sh"}
    if name not in ZERO_SHOT:
        commands["Train:"] = "scripts/run_train.sh"
    for start, script in commands.items():
        words = shlex.split(header_line(name, start))
        assert words[:3] == ["sh", script, f"configs/{name}"]


@pytest.mark.parametrize("name", RECIPES)
def test_header_states_the_score(name):
    score = header_line(name, "Score:")
    if name in PUBLISHED:
        _, _, published, crops, clips = PUBLISHED[name]
        views = f"{crops} crop{'s' * (crops > 1)} x {clips} clip{'s' * (clips > 1)}"
        assert score == f"published {published} with {views}; not measured here."
    elif name in OF_PUBLISHED_SETS:
        assert score == "no published score; not measured here."
    else:
        assert re.search(r"\d", score)
        assert "measured here" in score


@pytest.mark.parametrize("name", PUBLISHED)
def test_tests_with_the_published_model_and_views(name):
    arch, num_frames, score, crops, clips = PUBLISHED[name]
    config = load(name).config
    assert (config.network.arch, config.data.num_segments) == (arch, num_frames)
    assert config.data.input_size == (336 if "336" in arch else 224)
    command = header_line(name, "Test:")
    assert view_options(command) == (crops, clips)
    assert ("--metric map" in command) == ("mAP" in score)


@pytest.mark.parametrize("name", OF_PUBLISHED_SETS)
def test_model_is_the_published_one(name):
    network = load(name).config.network
    assert (network.sim_header, network.tm, network.joint_st) == ("Transf", False, False)
    assert (network.init, network.fix_text, network.fix_video) == (True, True, False)
    assert network.prompt == "a video of a person {}."


@pytest.mark.parametrize("name", TRAINED)
def test_optimisation_is_the_published_one(name):
    config = load(name).config
    solver = config.solver
    assert (solver.optim, solver.lr, solver.clip_ratio, solver.weight_decay) == ("adamw", 5e-5, 0.1, 0.2)
    assert (solver.type, solver.epochs, solver.lr_warmup_step, solver.loss_type) == ("cosine", 30, 5, "CE")
    assert (config.data.randaug.N, config.data.area_range) == (0, [0.08, 1.0])
    assert config.data.batch_size * solver.grad_accumulation_steps == 32


@pytest.mark.parametrize("name", TRAINED)
def test_other_data_sets_start_from_a_kinetics_400_recipe_of_the_same_tower(name):
    config = load(name).config
    if name.startswith("k400/"):
        assert config.pretrain is None
        return
    recipe = header_line(name, "pretrain: a checkpoint of configs/").split(",")[0]
    assert config.pretrain == f"exp/k400/{config.network.arch}/f{config.data.num_segments}/last_model.pt"
    start = load(recipe).config
    assert (start.network.arch, start.data.input_size) == (config.network.arch, config.data.input_size)
    assert (config.data.shot > 0) == ("few_shot" in name)


@pytest.mark.parametrize("name", OF_PUBLISHED_SETS)
def test_paths_are_those_that_the_data_page_makes(name):
    """Whoever gives the commands of docs/data.md as they stand has nothing to edit."""
    folder = name.split("/")[0]
    source = {"anet": "activitynet", "k400": "kinetics", "k600": "kinetics"}.get(folder, folder)
    split = re.search(r"zero_shot_split(\d)", name)
    made = []
    page = (REPO / "docs/data.md").read_text(encoding="utf-8")
    for command in re.findall(rf"^python -m tools\.make_lists {source} .*$", page, re.MULTILINE):
        if split:  # the page shows the first split
            command = command.replace("_split1", f"_split{split[1]}")
        options = dict(re.findall(r"--([a-z-]+) (\S+)", command))
        suffix = "_split1" if folder in ("ucf101", "hmdb51") else ""
        made.append(
            {
                "train_root": options.get("instances", options["root"]),
                "train_list": f"{options['out']}/train{suffix}.txt",
                "val_root": options["root"],
                "val_list": f"{options['out']}/val{suffix}.txt",
            }
        )
    data = load(name).config.data.model_dump()
    keys = ("val_root", "val_list") if name in ZERO_SHOT else ("train_root", "train_list", "val_root", "val_list")
    assert {key: data[key] for key in keys} in [{key: paths[key] for key in keys} for paths in made]
    assert (data["modality"], data["image_tmpl"], data["index_bias"]) == ("RGB", "img_{:05d}.jpg", 1)


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


def test_model_zoo_commands_are_the_headers_own():
    commands = re.findall(r"^sh scripts/run_test\.sh .*$", zoo_page(), re.MULTILINE)
    assert {command.split()[2] for command in commands} == {f"configs/{name}" for name in PUBLISHED}
    for command in commands:
        name = command.split()[2].removeprefix("configs/")
        assert command == header_line(name, "Test:")


def test_model_zoo_names_every_recipe_of_the_published_sets():
    named = set(re.findall(r"configs/([\w-]+/[\w-]+\.yaml)", zoo_page()))
    assert named == set(OF_PUBLISHED_SETS)


def test_model_zoo_marks_its_commands():
    blocks = re.findall(r"```sh\n(.*?)```", zoo_page(), re.DOTALL)
    assert blocks
    assert all(block.startswith("# needs the data set") for block in blocks)
