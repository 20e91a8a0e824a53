"""A look at the data before a run: do the listed files open?"""

import numpy as np

from datasets.video_dataset import SampleKey, VideoDataset

NUM_SAMPLES = 16


def read_samples(dataset: VideoDataset, num_samples: int = NUM_SAMPLES) -> int:
    """Read up to `num_samples` items spread evenly over the list; returns how many.

    Raises:
        UserError: the first one that is missing or damaged.
    """
    indices = np.unique(np.linspace(0, len(dataset) - 1, num_samples).astype(int))
    for index in indices:
        dataset[SampleKey(0, int(index))]
    return len(indices)
