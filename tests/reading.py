"""Annotation lists of either kind."""

from functools import partial

from datasets.lists import read_list

read_frame_list, read_video_list = partial(read_list, of_frames=True), partial(read_list, of_frames=False)
