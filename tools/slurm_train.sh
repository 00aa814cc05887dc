#!/usr/bin/env bash
# Train as a Slurm job, one process a GPU:
#   [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] \
#       bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py ...]
# GPUS_PER_NODE=0 asks for no GPU and trains on the CPU.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] bash $0 PARTITION JOB_NAME CONFIG" \
         "WORK_DIR [train.py arguments]" >&2
    exit 2
fi
. "$(dirname "$0")/slurm_env.sh"
launch "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
