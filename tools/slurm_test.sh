#!/usr/bin/env bash
# Evaluate a checkpoint as a Slurm job, one process a GPU:
#   [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] \
#       bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py ...]
# GPUS_PER_NODE=0 asks for no GPU and evaluates on the CPU.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] bash $0 PARTITION JOB_NAME CONFIG" \
         "CHECKPOINT [test.py arguments]" >&2
    exit 2
fi
. "$(dirname "$0")/slurm_env.sh"
launch "$1" "$2" test.py "$3" "$4" "${@:5}"
