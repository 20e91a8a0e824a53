"""Augmentations of training clips by config name, in the order in which they are drawn and applied.

CONTRIBUTING.md shows how to add one; appended at the end, it leaves the random numbers of the others as they are.
"""

AUGMENTATIONS = {
    "randaug": "datasets.augmentations.randaug.RandAug",
    "color_jitter": "datasets.augmentations.color_jitter.ColorJitter",
    "grayscale": "datasets.augmentations.grayscale.Grayscale",
    "erasing": "datasets.augmentations.erasing.Erasing",
}
