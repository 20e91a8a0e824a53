"""Readers of video files by their name in a config (`data.decoder`); CONTRIBUTING.md says how to add one.

A reader's file is imported when it is asked for.
"""

READERS = {
    "pyav": "datasets.pyav_source.PyAVVideo",
    "decord": "datasets.decord_source.DecordVideo",
    "torchcodec": "datasets.torchcodec_source.TorchCodecVideo",
}
