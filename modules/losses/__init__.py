"""Training losses by config name (`solver.loss_type`); CONTRIBUTING.md shows how to add one."""

LOSSES = {
    "CE": "modules.losses.cross_entropy.CrossEntropy",
    "BCE": "modules.losses.binary_cross_entropy.BinaryCrossEntropy",
    "NCE": "modules.losses.contrastive.NoiseContrastive",
    "mixture": "modules.losses.mixture.MixtureLoss",
    "DS": "modules.losses.contrastive.DualSoftmax",
}

# What the rules between config keys ask of a loss, here because they are checked without PyTorch.
OF_SEVERAL_LABELS = ("BCE",)
"""Losses for lists with several labels per video, `data.multi_label`; the others need one label."""
OF_OWN_CLASSES = ("CE",)
"""Losses that can compare a clip with the classes of its data set only, `data.label_space: apart`."""
OF_TRAINED_CLASSES = ("CE", "BCE")
"""Losses that can train the class embeddings, `network.train_classifier`."""
BESIDE_DISTILLATION = ("CE",)
"""Losses that can be combined with `solver.distill`."""
