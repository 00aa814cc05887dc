# Sourced by slurm_train.sh and slurm_test.sh.

GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE-8}
CPUS_PER_TASK=${CPUS_PER_TASK:-5}
SRUN_ARGS=${SRUN_ARGS:-}
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# launch PARTITION JOB_NAME SCRIPT ARGUMENTS...: run the script in GPUS tasks.
launch() {
    local partition=$1 job_name=$2 script=$3
    shift 3
    local placement=()
    if [ "$GPUS_PER_NODE" -gt 0 ]; then
        [ "$GPUS" -ge "$GPUS_PER_NODE" ] || GPUS_PER_NODE=$GPUS
        placement=(--gres="gpu:$GPUS_PER_NODE" --ntasks-per-node="$GPUS_PER_NODE")
    fi
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
    export PYTHONPATH=$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}
    # shellcheck disable=SC2086  # SRUN_ARGS holds several words
    exec srun -p "$partition" --job-name="$job_name" ${placement[@]+"${placement[@]}"} --ntasks="$GPUS" \
        --cpus-per-task="$CPUS_PER_TASK" --kill-on-bad-exit=1 $SRUN_ARGS \
        "${PYTHON:-python}" -u "$TOOLS/$script" "$@" --launcher slurm
}
