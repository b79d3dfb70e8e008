#!/bin/sh
# Everything bundled for drawn portraits, from nothing. It goes on where it was stopped: a stage
# whose result is there is skipped, and an interrupted training resumes from its last checkpoint.
#
#     sh recipes/rebuild_portraits.sh              # all stages
#     sh recipes/rebuild_portraits.sh synthesis    # up to and with this one
#
# RUNS is the folder of all results (default: runs), PYTHON the interpreter (default: python),
# PRECISION=bf16 doubles the speed on processors that have it,
# BUNDLE where the finished pipeline goes (default: cards/portraits; the judges lie beside it).
# recipes/rebuild_edits.sh then makes the edits.
# One thread is used, and most of a day of one core goes into the generator.
set -eu
cd "$(dirname "$0")/.."
RUNS=${RUNS:-runs}
PYTHON=${PYTHON:-python}
BUNDLE=${BUNDLE:-cards/portraits}
LAST=${1:-bundle}
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
        [ -e "$RUNS/$result" ] || { echo "$name ended before $RUNS/$result was there."; exit 1; }
    fi
    if [ "$name" = "$LAST" ]; then exit 0; fi
}

draw() { "$PYTHON" recipes/render_portraits.py --workers 1 "$@"; }

# train RECIPE FOLDER OPTIONS...
train() {
    recipe=$1 folder=$2
    shift 2
    "$PYTHON" "recipes/train_$recipe.py" "$@" --output_dir "$RUNS/$folder" \
        --resume_from_checkpoint latest
}

# paired FOLDER OPTIONS...: the generator's recipe takes its route first.
paired() {
    folder=$1
    shift
    "$PYTHON" recipes/train_generator.py paired "$@" --output_dir "$RUNS/$folder" \
        --resume_from_checkpoint latest
}

# The generator: factors to pictures at 32, 64 and 128 px; then pairs that differ in one attribute,
# most of them at 64 px, where geometry is learned ten times faster than at 256; z to w; together.
stage blends-128 blends-128/images-00029.npy \
    draw --blends --resolution 128 --count 30000 --output_dir "$RUNS/blends-128"
stage synthesis synthesis/generator \
    paired synthesis --cache "$RUNS/blends-128" --max_train_steps 10500 \
    --checkpointing_steps 100 --sample_steps 200 --checkpoints_total_limit 3
details() {
    folder=$1 start=$2 schedule=$3 rate=$4
    paired "$folder" --stage details --init_from "$RUNS/$start" --schedule "$schedule" \
        --max_train_steps "${schedule##*:}" --lr_scheduler cosine --learning_rate "$rate" \
        --checkpointing_steps 500 --sample_steps 1000 --mixed_precision "${PRECISION:-no}"
}
stage details-64 details-64/generator details details-64 synthesis 64:24:12000 1e-2
stage details-128 details-128/generator details details-128 details-64 128:8:6000 1e-2
stage details-256 details-256/generator details details-256 details-128 256:4:4000 5e-3
stage blends-256 blends-256/images-00001.npy \
    draw --blends --resolution 256 --count 2000 --output_dir "$RUNS/blends-256"
stage mapping mapping/generator \
    paired mapping --stage mapping --init_from "$RUNS/details-256" --max_train_steps 12000 \
    --lr_scheduler cosine
stage together generator/generator \
    paired generator --stage together --cache "$RUNS/blends-256" --init_from "$RUNS/mapping" \
    --schedule 256:4:6000 --max_train_steps 6000 --lr_scheduler cosine --learning_rate 1e-2 \
    --checkpointing_steps 100 --sample_steps 200

# The parts that look at pictures: they see 64 to 128 px.
stage portraits portraits/images-00039.npy \
    draw --resolution 128 --output_dir "$RUNS/portraits"
stage identities identities/images-00039.npy \
    draw --resolution 128 --identities 4000 --output_dir "$RUNS/identities"
stage reader reader/reader train reader reader --cache "$RUNS/portraits"
stage clip clip/metrics.json train clip clip --cache "$RUNS/portraits"
stage clip-2 clip-2/metrics.json \
    train clip clip-2 --cache "$RUNS/portraits" --init_from "$RUNS/clip" \
    --generator "$RUNS/generator" --max_train_steps 5000
stage recognizer recognizer/recognizer train recognizer recognizer --cache "$RUNS/identities"
# Another one, with another seed and other sizes, judges identity and is used in no training.
stage judge judge/recognizer train recognizer judge --cache "$RUNS/identities" --seed 1 \
    --units 1 2 2 --widths 24 48 80
stage landmarks landmarks/landmarker train landmarks landmarks --cache "$RUNS/portraits"

# bundle FOLDER OPTIONS...
bundle() {
    folder=$1
    shift
    "$PYTHON" recipes/bundle_portraits.py --generator "$RUNS/generator/generator" \
        --clip "$RUNS/clip-2" --recognizer "$RUNS/recognizer/recognizer" \
        --landmarker "$RUNS/landmarks/landmarker" --reader "$RUNS/reader/reader" \
        --output_dir "$folder" "$@"
}

# Parser and encoder look at the pipeline without them, then everything goes into one folder.
stage pipeline pipeline/model_index.json bundle "$RUNS/pipeline" --count 200
stage parser parser/parser train parser parser --pipeline "$RUNS/pipeline"
stage encoder encoder/encoder \
    train encoder encoder --pipeline "$RUNS/pipeline" --reader "$RUNS/reader/reader" \
    --cache "$RUNS/portraits" --resolution 128 --widths 32 64 96 128 --head_width 64 \
    --mixed_precision "${PRECISION:-no}"
stage bundled bundled/model_index.json bundle "$RUNS/bundled" \
    --parser "$RUNS/parser/parser" --encoder "$RUNS/encoder/encoder"

# What is made of the whole pipeline: details of photographs, any words at once, how well they fit,
# what a likeness means.
stage detailer bundled/detailer train detailer detailer --pipeline "$RUNS/bundled" \
    --mixed_precision "${PRECISION:-no}" --add
stage instant bundled/instant "$PYTHON" recipes/train_instant.py --pipeline "$RUNS/bundled" \
    --output_dir "$RUNS/instant" --add
stage fit fit/metrics.json "$PYTHON" recipes/calibrate_fit.py --pipeline "$RUNS/bundled" \
    --reader "$RUNS/reader/reader" --output_dir "$RUNS/fit" --add
stage likeness likeness/photographs.json "$PYTHON" recipes/evaluate_photographs.py \
    --pipeline "$RUNS/bundled" --calibrate "$RUNS/bundled" --output_dir "$RUNS/likeness"
stage critic critic/critic train critic critic --pipeline "$RUNS/bundled"

rm -rf "$BUNDLE"
cp -r "$RUNS/bundled" "$BUNDLE"
"$PYTHON" recipes/bundle_judges.py --reader "$RUNS/reader/reader" --critic "$RUNS/critic/critic" \
    --recognizer "$RUNS/judge/recognizer" --output_dir "$(dirname "$BUNDLE")" --overwrite
