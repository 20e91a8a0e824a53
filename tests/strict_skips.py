"""`--strict-skips`: a skip whose reason is not on the list below is a failure, so that tests are not skipped unnoticed.

A plugin of pytest, loaded by conftest.py; `.ci/run` sets the option.
"""

import re

import pytest

ALLOWED = (
    r"only in a long run: set FUZZ_CASES",
    r"no real clips at .*",  # they are not part of the project: VIDEOS_DIR
    r"no published labels at .*",  # nor are these: LABELS_DIR
    r"a small disk needs root to be mounted",
    r"mounting is not permitted here: .*",
    r"network namespaces are not permitted: .*",
    r"network namespaces cannot be joined here: .*",
    r"decord has no wheel for this processor",
    r"(sharded training|torchcodec) needs PyTorch 2\.[0-9]+",  # the oldest version is tested without them
)
"""Regular expressions of reasons that installing a package cannot remove."""


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--strict-skips", action="store_true", help="fail on a skip whose reason is not listed in tests/strict_skips.py"
    )


def _refuse(report, config) -> None:
    """Turn a skip for a reason that is not allowed into a failure; an expected failure is not a skip."""
    if not report.skipped or hasattr(report, "wasxfail") or not config.getoption("strict_skips"):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if not any(re.fullmatch(allowed, reason, re.DOTALL) for allowed in ALLOWED):
        report.outcome = "failed"
        report.longrepr = f"skipped for a reason that tests/strict_skips.py does not allow: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    _refuse(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _refuse(report, collector.config)
    return report
