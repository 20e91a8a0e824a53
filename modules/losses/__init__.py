"""Training losses by their name in a config (`solver.loss_type`); CONTRIBUTING.md says how to add one."""

LOSSES = {
    "CE": "modules.losses.cross_entropy.CrossEntropy",
    "BCE": "modules.losses.binary_cross_entropy.BinaryCrossEntropy",
    "NCE": "modules.losses.contrastive.NoiseContrastive",
    "mixture": "modules.losses.mixture.MixtureLoss",
    "DS": "modules.losses.contrastive.DualSoftmax",
}
