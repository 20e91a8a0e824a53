"""Where class embeddings come from, by its name in a config; CONTRIBUTING.md says how to add one."""

CLASSIFIERS = {
    "clip_text": "modules.classifiers.clip_text.ClipText",
    "random": "modules.classifiers.drawn_rows.RandomRows",
    "orthogonal": "modules.classifiers.drawn_rows.OrthogonalRows",
    "lda": "modules.classifiers.from_file.FromFile",
    "language_model": "modules.classifiers.language_model.LanguageModelText",
    "file": "modules.classifiers.from_file.FromFile",
}
"""Frozen ones: choices of `network.classifier`."""

TRAINED = {
    "adapter": "modules.adapters.deep_prompts.TextPrompts",
    "train_classifier": "modules.classifiers.trained_matrix.TrainedMatrix",
    "context_tokens": "modules.classifiers.learned_context.LearnedContext",
    "fix_text": "modules.classifiers.trained_text.TrainedText",
}
"""Those that train with the model, by the key in `network` that asks for them; the first one asked for is taken."""
