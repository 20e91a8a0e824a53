"""Rules between config keys of the class embeddings."""

from modules.classifiers import OF_FILES, OF_PROMPTS
from modules.losses import OF_TRAINED_CLASSES
from utils.odd_names import is_utf8
from utils.schema import Config
from utils.schema_rules import Rule


def has_one_prompt(config: Config) -> bool:
    """Whether each class is one prompt through CLIP's text tower."""
    return config.network.classifier in OF_PROMPTS and config.network.prompt_set is None


RULES = (
    Rule(("network.prompt",), lambda c: "{}" not in c.network.prompt, "must contain {} for the class name"),
    Rule(
        ("network.prompt",),
        lambda c: not is_utf8(c.network.prompt),
        "is not UTF-8 text; set it in the config file",
    ),
    Rule(
        ("network.classifier", "network.classifier_file"),
        lambda c: c.network.classifier in OF_FILES and not c.network.classifier_file,
        "this classifier is read from a file; set classifier_file to its .npz file",
    ),
    Rule(
        ("network.fix_text", "network.classifier", "network.prompt_set"),
        lambda c: not c.network.fix_text and not has_one_prompt(c),
        "a trained text tower uses one prompt per class; set classifier to clip_text and prompt_set to null",
    ),
    Rule(
        ("network.context_tokens", "network.classifier", "network.prompt_set"),
        lambda c: c.network.context_tokens > 0 and not has_one_prompt(c),
        "a learned context replaces the prompt; set classifier to clip_text and prompt_set to null",
    ),
    Rule(
        ("network.context_tokens", "network.context_init", "network.context_per_class"),
        lambda c: c.network.context_tokens == 0 and (bool(c.network.context_init) or c.network.context_per_class),
        "only apply to a learned context; set context_tokens to its length",
    ),
    Rule(
        ("network.train_classifier", "network.fix_text", "network.context_tokens", "solver.loss_type"),
        lambda c: (
            c.network.train_classifier
            and (not c.network.fix_text or c.network.context_tokens > 0 or c.solver.loss_type not in OF_TRAINED_CLASSES)
        ),
        "trained class embeddings replace the text and need loss_type CE or BCE; set fix_text to true and "
        "context_tokens to 0",
    ),
)
