#!/bin/sh
# Sets itself up, then runs the tests.
#
#   sh scripts/run_tests.sh [pytest arguments]
cd "$(dirname "$0")/.." || exit 1
. scripts/common.sh
set_up_environment requirements-dev.txt
exec python -m pytest "$@"
