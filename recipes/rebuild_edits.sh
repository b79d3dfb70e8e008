#!/bin/sh
# Rebuilds all bundled edits for the bundled portraits from scratch; recipes/rebuild_portraits.sh
# comes first. If this script is started again, it continues where it stopped: an edit whose run is
# finished is skipped, and an interrupted training resumes from its last checkpoint.
#
#     sh recipes/rebuild_edits.sh
#
# Environment variables:
#     RUNS, PYTHON, PRECISION    as in rebuild_portraits.sh
#     CARDS                      folder of the edits (default: cards)
#     PIPELINE                   name or folder of the pipeline (default: portraits)
#
# By default, one thread is used. On one core, each mapper takes ten minutes, and all edits together
# take about five hours.
set -eu
cd "$(dirname "$0")/.."
RUNS=${RUNS:-runs}
PYTHON=${PYTHON:-python}
CARDS=${CARDS:-cards}
PIPELINE=${PIPELINE:-portraits}
PRECISION=${PRECISION:-no}
export PYTHONPATH="${PYTHONPATH:-.}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OMP_WAIT_POLICY=passive

# bundle NAME RESULT: copy the edit to the cards, without its checkpoints.
bundle() {
    [ -e "$2/config.json" ] || { echo "$2 holds no edit."; exit 1; }
    rm -rf "${CARDS:?}/$1"
    mkdir -p "$CARDS/$1"
    for part in config.json model.safetensors metrics.json README.md images target.png; do
        if [ -e "$2/$part" ]; then cp -r "$2/$part" "$CARDS/$1/"; fi
    done
    echo "$CARDS/$1"
}

# train METHOD NAME OPTIONS...: train an edit and bundle it.
train() {
    method=$1 name=$2
    shift 2
    if [ ! -e "$RUNS/$name/README.md" ]; then
        "$PYTHON" recipes/train.py "$method" --pipeline "$PIPELINE" --output_dir "$RUNS/$name" \
            --mixed_precision "$PRECISION" --resume_from_checkpoint latest "$@"
    fi
    bundle "$name" "$RUNS/$name"
}

# instant NAME TEXT TARGETS...: make an edit with the instant method, measure it, and bundle it.
instant() {
    name=$1 text=$2
    shift 2
    if [ ! -e "$RUNS/$name/README.md" ]; then
        "$PYTHON" -m stylegan_hub edit --pipeline "$PIPELINE" --text "$text" --method instant \
            --every-face --save-edit "$RUNS/$name" -o "$RUNS/$name.png"
        "$PYTHON" recipes/evaluate.py "$RUNS/$name" --pipeline "$PIPELINE" --target "$@"
    fi
    bundle "$name" "$RUNS/$name"
}

# The table of global directions (StyleCLIP, section 6).
if [ ! -e "$RUNS/directions/direction_table/config.json" ]; then
    "$PYTHON" recipes/build_direction_table.py --pipeline "$PIPELINE" \
        --output_dir "$RUNS/directions" --drawn_above 0.1 --resume_from_checkpoint latest
fi
bundle portraits-directions "$RUNS/directions/direction_table"

# Latent mappers (StyleCLIP, section 5).
train mapper afro-hair --text "a face with an afro" --target_attributes hair_style=afro
train mapper curly-hair --text "a face with curly hair" --target_attributes hair_style=curly
train mapper mohawk --text "a face with a mohawk" --target_attributes hair_style=mohawk
train mapper glasses --text "a person with glasses" --target_attributes glasses=yes
train mapper old --text "an old person with wrinkles" --target_attributes age=old
train mapper surprised --text "a surprised face" --target_attributes expression=surprised
# A named character is many attributes at once, and rare among samples: it needs a mapper.
character() {
    name=$1 text=$2
    train mapper "$name" --text "$text" --target_attributes "character=$text" \
        --mapper_type single --latent_l2_lambda 0.02 --max_train_steps 250
}
character zuri Zuri
character captain-otto "Captain Otto"

# The instant method.
instant bob-cut "a face with a bob cut" hair_style=bob
instant purple-hair "a face with purple hair" hair_color=purple

# Essences (TargetCLIP).
for name in zuri milo ivy captain-otto; do
    train essence "essence-$name" --target "docs/targets/$name.png"
done
for name in cat robot; do
    train essence "essence-$name" --target "docs/targets/$name.png" --preset out_of_domain
done

# Local edits (LELSD, eCLIPsed).
train local local-afro --text "a face with an afro" --target_attributes hair_style=afro
train local local-curly-hair --text "a face with curly hair" --target_attributes hair_style=curly
train local local-blonde-hair --text "a face with blonde hair" --target_attributes hair_color=blonde
train local local-blue-eyes --text "a face with blue eyes" --target_attributes eye_color=blue
train local local-red-lipstick --text "a face with red lipstick" --target_attributes lipstick=yes
train local local-smile --text "a smiling face" --target_attributes expression=smiling
train local local-surprised --text "a surprised face with an open mouth" \
    --target_attributes expression=surprised
train local local-beard --text "a face with a beard" --target_attributes beard=yes
train local local-glasses --text "a face with glasses" --target_attributes glasses=yes

# Text to face.
if [ ! -e "$RUNS/captioner/captioner" ]; then
    "$PYTHON" recipes/train_captioner.py --cache "$RUNS/portraits" --output_dir "$RUNS/captioner" \
        --mixed_precision "$PRECISION" --resume_from_checkpoint latest
fi
if [ ! -e "$RUNS/text-to-face/README.md" ]; then
    "$PYTHON" recipes/train_text_to_face.py --cache "$RUNS/portraits" --pipeline "$PIPELINE" \
        --captioner "$RUNS/captioner/captioner" --output_dir "$RUNS/text-to-face" \
        --warm_start_samples 24000 --warm_start_characters 480 \
        --mixed_precision "$PRECISION" --resume_from_checkpoint latest
fi
bundle text-to-face "$RUNS/text-to-face"
