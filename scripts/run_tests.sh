#!/bin/sh
# Installs the requirements and runs the tests in TEST_WORKERS (default 2) processes of one thread each.
#
#   sh scripts/run_tests.sh [pytest arguments]
cd "$(dirname "$0")/.." || exit 1
. scripts/common.sh
show_help scripts/run_tests.sh "$@"
set_up_environment requirements-dev.txt
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python -m pytest -n "${TEST_WORKERS:-2}" --dist loadfile "$@"
