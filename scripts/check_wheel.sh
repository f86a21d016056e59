#!/usr/bin/env bash
# Build the wheel, install it in a fresh environment, run the command once in an empty folder.
# Usage: scripts/check_wheel.sh PYTHON TORCH
set -euo pipefail
python=$1
torch=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --wheel --outdir "$work/dist" . > "$work/build.log" 2>&1 ||
    { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$torch"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$work"/dist/*.whl

mkdir "$work/empty"
cd "$work/empty"
"$work/venv/bin/jsrl" train experiment=pointmaze_jsrl run_dir=run \
    learner.hidden=[16,16] learner.batch_size=16 dataset.collected=300 offline.updates=50 \
    online.steps=200 online.learning_starts=50 curriculum.initial_episodes=2 \
    evaluation.interval=100 evaluation.episodes=2 evaluation.final_episodes=2
test -s run/summary.json
found=$(ls -A)
test "$found" = run || { echo "stray files beside the run: $found"; exit 1; }
echo "the wheel runs elsewhere"
