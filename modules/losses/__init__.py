"""Training losses by config name (`solver.loss_type`); CONTRIBUTING.md shows how to add one."""

LOSSES = {
    "CE": "modules.losses.cross_entropy.CrossEntropy",
    "BCE": "modules.losses.binary_cross_entropy.BinaryCrossEntropy",
    "NCE": "modules.losses.contrastive.NoiseContrastive",
    "mixture": "modules.losses.mixture.MixtureLoss",
    "DS": "modules.losses.contrastive.DualSoftmax",
}
