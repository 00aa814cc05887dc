#!/usr/bin/env bash
# Evaluate a checkpoint on several devices of one or more machines with torchrun:
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py ...]
# GPUS is the number of processes on this machine; without a GPU they use the CPU and gloo.
# On several machines run it on each one with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: [NNODES=2 NODE_RANK=0 MASTER_ADDR=host PORT=29500] bash $0 CONFIG CHECKPOINT GPUS" \
         "[test.py arguments]" >&2
    exit 2
fi
. "$(dirname "$0")/dist_env.sh"
launch test.py "$3" "$1" "$2" "${@:4}"
