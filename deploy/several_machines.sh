#!/bin/sh
# Start a training script on several machines: the same command on each of them.
#
#     deploy/several_machines.sh FIRST MACHINES SCRIPT [ARGUMENTS...]
#     deploy/several_machines.sh gpu01 2 train.py
#
# FIRST is the name or address of one of them; the others must reach it on port 29500 (PORT sets
# another). One process for each GPU, or PROCESSES of them. If a process ends, all are started again,
# up to RESTARTS times: with resume=True the script goes on from its last checkpoint.
set -eu
if [ "$#" -lt 3 ]; then
    sed -n '2,5p' "$0" >&2
    exit 2
fi
first=$1 machines=$2
shift 2
exec torchrun \
    --nnodes "$machines" \
    --nproc-per-node "${PROCESSES:-gpu}" \
    --max-restarts "${RESTARTS:-0}" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$first:${PORT:-29500}" \
    --rdzv-id "${RUN:-course}" \
    "$@"
