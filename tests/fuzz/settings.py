"""How many cases the fuzz tests try: FUZZ_CASES, a few by default, thousands in a long run."""

import os
from datetime import timedelta

from hypothesis import HealthCheck, settings

NUM_CASES = int(os.environ.get("FUZZ_CASES", 60))

fuzz = settings(
    max_examples=NUM_CASES,
    deadline=timedelta(seconds=10),  # of one case: a hang is a failure
    suppress_health_check=list(HealthCheck),
    derandomize="FUZZ_CASES" not in os.environ,
    database=None,
)
