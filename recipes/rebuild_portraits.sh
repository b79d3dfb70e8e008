#!/bin/sh
# Everything bundled for drawn portraits, from nothing. It goes on where it was stopped: a stage
# whose result is there is skipped, and an interrupted training resumes from its last checkpoint.
#
#     RUNS=runs sh recipes/rebuild_portraits.sh              # all stages
#     RUNS=runs sh recipes/rebuild_portraits.sh synthesis    # up to and with this one
#
# RUNS is the folder of all results (default: runs), PYTHON the interpreter (default: python).
# One thread is used; the whole takes about a day of one core, most of it for the synthesis.
set -eu
cd "$(dirname "$0")/.."
RUNS=${RUNS:-runs}
PYTHON=${PYTHON:-python}
LAST=${1:-all}
export PYTHONPATH="${PYTHONPATH:-.}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OMP_WAIT_POLICY=passive

# stage NAME RESULT COMMAND...: run the command unless its result is there.
stage() {
    name=$1 result=$2
    shift 2
    if [ -e "$RUNS/$result" ]; then
        echo "$name: done"
    else
        echo "$name: $*"
        "$@"
    fi
    if [ "$name" = "$LAST" ]; then exit 0; fi
}

draw() { "$PYTHON" recipes/render_portraits.py --workers 1 "$@"; }
train() {
    recipe=$1
    shift
    "$PYTHON" "recipes/train_$recipe.py" "$@" --resume_from_checkpoint latest
}

stage blends-128 blends-128/images-00029.npy \
    draw --blends --resolution 128 --count 30000 --output_dir "$RUNS/blends-128"
# Factors to pictures: 32 and 64 px, then 128 px, then 256 px.
paired() {
    train generator paired --output_dir "$RUNS/$1" --cache "$RUNS/$2" --max_train_steps "$3" \
        --checkpointing_steps 100 --sample_steps 200
}
stage synthesis-128 synthesis/checkpoint-10500 paired synthesis blends-128 10500
stage blends-256 blends-256/images-00019.npy \
    draw --blends --resolution 256 --count 20000 --output_dir "$RUNS/blends-256"
stage synthesis synthesis/checkpoint-25500 paired synthesis blends-256 25500
