#!/usr/bin/env bash
# Train on several devices of one or more machines with torchrun:
#   bash tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py ...]
# GPUS is the number of processes on this machine; without a GPU they use the CPU and gloo.
# On several machines run it on each one with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
# MAX_RESTARTS=3 with --resume: when a process dies, all start again from the newest checkpoint.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: [NNODES=2 NODE_RANK=0 MASTER_ADDR=host PORT=29500] [MAX_RESTARTS=3] bash $0 CONFIG GPUS [train.py arguments]" >&2
    exit 2
fi
. "$(dirname "$0")/dist_env.sh"
launch train.py "$2" "$1" "${@:3}"
