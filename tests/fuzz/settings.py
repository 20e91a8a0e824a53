"""How many cases the fuzz tests try: FUZZ_CASES, a few by default, thousands in a long run."""

import os
from datetime import timedelta

from hypothesis import HealthCheck, settings

NUM_CASES = int(os.environ.get("FUZZ_CASES", 60))  # of a media file or table, each of which is decoded
NUM_TEXTS = int(os.environ.get("FUZZ_CASES", 500))  # of a parser

fuzz = settings(
    max_examples=NUM_CASES,
    deadline=timedelta(seconds=10),  # of one case: a hang is a failure
    suppress_health_check=list(HealthCheck),
    derandomize="FUZZ_CASES" not in os.environ,
    database=None,
)
fuzz_text = settings(parent=fuzz, max_examples=NUM_TEXTS)
