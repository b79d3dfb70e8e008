#!/bin/sh
# Rebuilds all bundled models for drawn portraits from scratch. If this script is started again, it
# continues where it stopped: a stage whose result exists is skipped, and an interrupted training
# resumes from its last checkpoint.
#
#     sh recipes/rebuild_portraits.sh              # all stages
#     sh recipes/rebuild_portraits.sh synthesis    # the stages up to this one, inclusive
#
# Environment variables:
#     RUNS          folder of all results (default: runs)
#     PYTHON        Python interpreter (default: python)
#     PRECISION     bf16 doubles the speed on processors that support it (default: no)
#     BUNDLE        folder of the finished pipeline (default: cards/portraits); the judges are
#                   written to folders beside it
#
# Afterwards, recipes/rebuild_edits.sh makes the edits. By default, one thread is used. The
# generator takes most of a day on one core.
set -eu
cd "$(dirname "$0")/.."
RUNS=${RUNS:-runs}
PYTHON=${PYTHON:-python}
BUNDLE=${BUNDLE:-cards/portraits}
LAST=${1:-bundle}
export PYTHONPATH="${PYTHONPATH:-.}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OMP_WAIT_POLICY=passive

# stage NAME RESULT COMMAND...: run the command, unless its result exists.
stage() {
    name=$1 result=$2
    shift 2
    if [ -e "$RUNS/$result" ]; then
        echo "$name: done"
    else
        echo "$name: $*"
        "$@"
        [ -e "$RUNS/$result" ] || { echo "$name ended without writing $RUNS/$result."; exit 1; }
    fi
    if [ "$name" = "$LAST" ]; then exit 0; fi
}

# render OPTIONS...: run recipes/render_portraits.py in one process.
render() { "$PYTHON" recipes/render_portraits.py --workers 1 "$@"; }

# train RECIPE FOLDER OPTIONS...: run the training recipe train_RECIPE.py.
train() {
    recipe=$1 folder=$2
    shift 2
    "$PYTHON" "recipes/train_$recipe.py" "$@" --output_dir "$RUNS/$folder" \
        --resume_from_checkpoint latest
}

# paired FOLDER OPTIONS...: run the generator's recipe, which takes the route as its first argument.
paired() {
    folder=$1
    shift
    "$PYTHON" recipes/train_generator.py paired "$@" --output_dir "$RUNS/$folder" \
        --resume_from_checkpoint latest
}

# The generator. It learns to turn factors into pictures at 32, 64 and 128 px. Then it learns from
# pairs that differ in one attribute; most steps are at 64 px, where geometry is learned ten times
# faster than at 256 px. Then it learns to turn z into w, and finally all of it is trained together.
stage blends-128 blends-128/images-00029.npy \
    render --blends --resolution 128 --count 30000 --output_dir "$RUNS/blends-128"
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
    render --blends --resolution 256 --count 2000 --output_dir "$RUNS/blends-256"
stage mapping mapping/generator \
    paired mapping --stage mapping --init_from "$RUNS/details-256" --max_train_steps 12000 \
    --lr_scheduler cosine
stage together generator/generator \
    paired generator --stage together --cache "$RUNS/blends-256" --init_from "$RUNS/mapping" \
    --schedule 256:4:6000 --max_train_steps 6000 --lr_scheduler cosine --learning_rate 1e-2 \
    --checkpointing_steps 100 --sample_steps 200

# The models whose input is a picture. Their inputs have 64 to 128 px.
stage portraits portraits/images-00039.npy \
    render --resolution 128 --output_dir "$RUNS/portraits"
stage identities identities/images-00039.npy \
    render --resolution 128 --identities 4000 --output_dir "$RUNS/identities"
stage reader reader/reader train reader reader --cache "$RUNS/portraits"
stage clip clip/metrics.json train clip clip --cache "$RUNS/portraits"
stage clip-2 clip-2/metrics.json \
    train clip clip-2 --cache "$RUNS/portraits" --init_from "$RUNS/clip" \
    --generator "$RUNS/generator" --max_train_steps 5000
stage recognizer recognizer/recognizer train recognizer recognizer --cache "$RUNS/identities"
# A second recognizer, with another seed and other sizes, judges identity. No training uses it.
stage judge judge/recognizer train recognizer judge --cache "$RUNS/identities" --seed 1 \
    --units 1 2 2 --widths 24 48 80
stage landmarks landmarks/landmarker train landmarks landmarks --cache "$RUNS/portraits"

# bundle FOLDER OPTIONS...: write a pipeline with these parts.
bundle() {
    folder=$1
    shift
    "$PYTHON" recipes/bundle_portraits.py --generator "$RUNS/generator/generator" \
        --clip "$RUNS/clip-2" --recognizer "$RUNS/recognizer/recognizer" \
        --landmarker "$RUNS/landmarks/landmarker" --reader "$RUNS/reader/reader" \
        --output_dir "$folder" "$@"
}

# Parser and encoder are trained for a pipeline without them. Then all parts go into one folder.
stage pipeline pipeline/model_index.json bundle "$RUNS/pipeline" --count 200
stage parser parser/parser train parser parser --pipeline "$RUNS/pipeline"
stage encoder encoder/encoder \
    train encoder encoder --pipeline "$RUNS/pipeline" --reader "$RUNS/reader/reader" \
    --cache "$RUNS/portraits" --resolution 128 --widths 32 64 96 128 --head_width 64 \
    --mixed_precision "${PRECISION:-no}"
stage bundled bundled/model_index.json bundle "$RUNS/bundled" \
    --parser "$RUNS/parser/parser" --encoder "$RUNS/encoder/encoder"

# Parts that need the whole pipeline: the detailer, the instant method, the calibration of the fit
# of words, and the calibration of likeness.
stage detailer bundled/detailer train detailer detailer --pipeline "$RUNS/bundled" \
    --samples 1200 --max_train_steps 1500 --mixed_precision "${PRECISION:-no}" --add
stage instant bundled/instant "$PYTHON" recipes/train_instant.py --pipeline "$RUNS/bundled" \
    --output_dir "$RUNS/instant" --add
stage fit fit/metrics.json "$PYTHON" recipes/calibrate_fit.py --pipeline "$RUNS/bundled" \
    --reader "$RUNS/reader/reader" --output_dir "$RUNS/fit" --add
stage likeness likeness/photographs.json "$PYTHON" recipes/evaluate_photographs.py \
    --pipeline "$RUNS/bundled" --calibrate "$RUNS/bundled" --output_dir "$RUNS/likeness"

rm -rf "$BUNDLE"
cp -r "$RUNS/bundled" "$BUNDLE"
"$PYTHON" recipes/bundle_judges.py --reader "$RUNS/reader/reader" \
    --recognizer "$RUNS/judge/recognizer" --output_dir "$(dirname "$BUNDLE")" --overwrite
