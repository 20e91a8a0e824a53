"""Sources of class embeddings by config name; CONTRIBUTING.md shows how to add one."""

CLASSIFIERS = {
    "clip_text": "modules.classifiers.clip_text.ClipText",
    "random": "modules.classifiers.drawn_rows.RandomRows",
    "orthogonal": "modules.classifiers.drawn_rows.OrthogonalRows",
    "lda": "modules.classifiers.from_file.FromFile",
    "language_model": "modules.classifiers.language_model.LanguageModelText",
    "file": "modules.classifiers.from_file.FromFile",
}
"""Frozen class embeddings: choices of `network.classifier`."""

TRAINED = {
    "adapter": "modules.adapters.deep_prompts.TextPrompts",
    "train_classifier": "modules.classifiers.trained_matrix.TrainedMatrix",
    "context_tokens": "modules.classifiers.learned_context.LearnedContext",
    "fix_text": "modules.classifiers.trained_text.TrainedText",
}
"""Trained class embeddings, by the key in `network` that enables them; the first one enabled is used."""

# What the rules between config keys ask of a classifier, here because they are checked without PyTorch.
OF_PROMPTS = ("clip_text",)
"""Classifiers of prompts that go through CLIP's text tower, as trained texts and contexts need."""
OF_FILES = ("lda", "file")
"""Classifiers that are read from `network.classifier_file`."""
