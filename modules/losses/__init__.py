"""Training losses by their name in a config (`solver.loss_type`); CONTRIBUTING.md says how to add one.

`utils.components` imports a class's file when it is asked for.
"""

LOSSES = {
    "CE": "modules.losses.cross_entropy.CrossEntropy",
    "BCE": "modules.losses.binary_cross_entropy.BinaryCrossEntropy",
    "NCE": "modules.losses.contrastive.NoiseContrastive",
    "mixture": "modules.losses.mixture.MixtureLoss",
    "DS": "modules.losses.contrastive.DualSoftmax",
}
