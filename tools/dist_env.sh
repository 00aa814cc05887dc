# Sourced by dist_train.sh and dist_test.sh.

NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
PORT=${PORT:-29500}
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
MAX_RESTARTS=${MAX_RESTARTS:-0}
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# launch SCRIPT PROCESSES ARGUMENTS...: start the processes of this machine.
launch() {
    local script=$1 processes=$2
    shift 2
    case $processes in
        ''|*[!0-9]*|0) echo "error: GPUS must be a number of at least 1, got '$processes'" >&2; exit 2 ;;
    esac
    # The processes share the cores; torchrun's own default of one thread wastes them on a CPU machine.
    local threads=$(( $(nproc 2>/dev/null || sysctl -n hw.ncpu) / processes ))
    [ "$threads" -ge 1 ] || threads=1
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads}
    export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
    export PYTHONPATH=$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}
    local meet=(--master_addr="$MASTER_ADDR" --master_port="$PORT")
    if [ "$MAX_RESTARTS" != 0 ]; then
        # Machines that have to meet again after a restart need a rendezvous that can be held twice.
        meet=(--rdzv_backend=c10d --rdzv_endpoint="$MASTER_ADDR:$PORT" --rdzv_id=mmckpt --max_restarts="$MAX_RESTARTS")
        # A store that outlives a restart would hand the new processes what the old ones left.
        export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    fi
    exec "${PYTHON:-python}" -m torch.distributed.run \
        --nnodes="$NNODES" --node_rank="$NODE_RANK" "${meet[@]}" --nproc_per_node="$processes" "$TOOLS/$script" "$@" --launcher pytorch
}
