"""Where class embeddings come from, by its name in a config (`network.classifier`); docs/layout.md says how to add one.

`modules.components` imports a class's file when it is asked for.
"""

CLASSIFIERS = {
    "clip_text": "modules.classifiers.clip_text.ClipText",
    "random": "modules.classifiers.random_rows.RandomRows",
    "orthogonal": "modules.classifiers.orthogonal_rows.OrthogonalRows",
    "lda": "modules.classifiers.from_file.FromFile",
    "language_model": "modules.classifiers.language_model.LanguageModelText",
    "file": "modules.classifiers.from_file.FromFile",
}
