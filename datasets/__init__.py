"""Video readers by config name (`data.decoder`); CONTRIBUTING.md shows how to add one.

The file of a reader is imported when it is used.
"""

READERS = {
    "pyav": "datasets.pyav_source.PyAVVideo",
    "decord": "datasets.decord_source.DecordVideo",
    "torchcodec": "datasets.torchcodec_source.TorchCodecVideo",
}

FASTEST_READER = "pyav"
"""The reader that is advised if a training waits for data."""
