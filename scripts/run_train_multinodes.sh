#!/bin/sh
# Trains a model on several machines; run it on each machine with the same CONFIG.
#
#   sh scripts/run_train_multinodes.sh CONFIG 0                           # on the first: it prints its address
#   MASTER_ADDR=10.0.0.1 sh scripts/run_train_multinodes.sh CONFIG 1      # on the second
#
# NODE_RANK    number of this machine, from 0 to NNODES - 1
# MASTER_ADDR  address of machine 0 for the other machines; default on machine 0: its first address
# MASTER_PORT  a free port on machine 0, the same for all; default 29500
# NNODES       machines; default 2
# NPROC        processes on each machine; default: its visible GPUs, or one on a CPU
# PYTHON       interpreter; default: the active environment's
#
# On SIGTERM, SIGINT, SIGUSR1, SIGHUP or SIGXCPU on any machine, all finish the step, save and exit with 75
# (docs/troubleshooting.md). A lost machine is detected after solver.process_timeout_minutes; then run the same commands
# again with resume=auto.
#
# If a machine has several networks, set GLOO_SOCKET_IFNAME (CPU) or NCCL_SOCKET_IFNAME (GPU) to the one to use.
usage="MASTER_ADDR=... sh scripts/run_train_multinodes.sh CONFIG NODE_RANK [key=value ...]"
cd "$(dirname "$0")/.." || exit 1
. scripts/common.sh
forward_options train.py "$@"
config=$(user_path "${1:-}") node_rank=${2:-}
need_file "$config" "config file"
case "$node_rank" in
    '' | *[!0-9]* | ??????????*) fail "NODE_RANK must be this machine's number, 0 to NNODES - 1; usage: $usage" ;;
esac
shift 2
[ -n "${MASTER_ADDR:-}" ] || [ "$node_rank" -eq 0 ] || fail "MASTER_ADDR is not set; give machine 0's address; usage: $usage"
need_number NNODES "${NNODES:-2}" 1 4096
need_number MASTER_PORT "${MASTER_PORT:-29500}" 1 65535
[ "$node_rank" -lt "${NNODES:-2}" ] || fail "NODE_RANK $node_rank is not below NNODES ${NNODES:-2}"
if [ -z "${MASTER_ADDR:-}" ]; then
    MASTER_ADDR=$(hostname -I 2>/dev/null | cut -d ' ' -f 1)
    MASTER_ADDR=${MASTER_ADDR:-$(hostname)}
    echo "on the other machines: MASTER_ADDR=$MASTER_ADDR sh scripts/run_train_multinodes.sh $config NODE_RANK" >&2
fi
find_python
count_processes
exec "$PYTHON" scripts/launch.py --nnodes "${NNODES:-2}" --node_rank "$node_rank" --nproc_per_node "$NPROC" \
    --master_addr "$MASTER_ADDR" --master_port "${MASTER_PORT:-29500}" train.py --config "$config" "$@"
