"""Prompts: one template, named ensembles, files of templates and of descriptions."""

import pytest

from modules.prompts import TEMPLATE_SETS, class_prompts, fill_templates
from utils.errors import UserError

NAMES = ["riding a bike", "swimming"]


def from_file(tmp_path, text):
    path = tmp_path / "prompts.yaml"
    path.write_text(text, encoding="utf-8")
    return class_prompts(NAMES, "unused {}", str(path))


def test_templates():
    assert fill_templates(["a", "b"], ["x {}.", "{} y"]) == [["x a.", "a y"], ["x b.", "b y"]]
    assert class_prompts(NAMES, "a video of {}.") == [["a video of riding a bike."], ["a video of swimming."]]
    with pytest.raises(UserError, match="network.prompt 'a video'.*{}"):
        fill_templates(["a"], ["a video"])


@pytest.mark.parametrize(("name", "count"), [("action16", 16), ("action28", 28)])
def test_named_sets(name, count):
    templates = TEMPLATE_SETS[name]
    assert len(set(templates)) == count == len(class_prompts(NAMES, "{}", name)[0])
    for template in templates:
        assert template.count("{}") == 1 and "  " not in template and template == template.strip()


def test_a_file_of_templates(tmp_path):
    assert from_file(tmp_path, "- one {}.\n- two {}.\n")[1] == ["one swimming.", "two swimming."]
    with pytest.raises(UserError, match="prompts.yaml: template 'two.'"):
        from_file(tmp_path, "- one {}.\n- two.\n")


def test_a_file_of_descriptions(tmp_path):
    text = "swimming: moving through water\nriding a bike: [on two wheels, '{} on a road']\nmore: unused\n"
    assert from_file(tmp_path, text) == [["on two wheels", "riding a bike on a road"], ["moving through water"]]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("swimming: in water\n", "1 of the 2 classes have no description, such as riding a bike"),
        ("swimming: 3\nriding a bike: b\n", "swimming: must be a description or a list of them, not 3"),
        ("swimming: []\nriding a bike: b\n", "swimming: must be a description"),
        ("swimming: ' '\nriding a bike: b\n", "swimming: must be a description"),
        ("", "must contain a list of templates"),
        ("- 3\n", "must contain a list of templates"),
        ("a: [\n", "prompts.yaml:2: not valid YAML"),
    ],
)
def test_faults_of_files_are_named(tmp_path, text, part):
    with pytest.raises(UserError) as error:
        from_file(tmp_path, text)
    assert part in str(error.value) and "prompts.yaml" in str(error.value)


def test_neither_a_set_nor_a_file():
    with pytest.raises(UserError, match="prompt_set action17: neither action16, action28 nor an existing file"):
        class_prompts(NAMES, "{}", "action17")
