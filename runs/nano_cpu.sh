#!/usr/bin/env bash
# Make the embedded checkpoint from nothing, on CPU cores: corpora, VAE, joint stage at 64², the same for longer, scores.
# Every stage resumes where it was stopped; run the script again until it ends.
#
#   runs/nano_cpu.sh [OUT] [--set key=value, for all training stages, e.g. --set steps=2 for a trial]
#
# Environment: OMNIALPHA_CORPORA is a folder of prepared corpora (without it they are fetched with apt-get and npm),
# OMNIALPHA_COUNT the number of held-out scenes to score, PYTHON the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/nano}
shift || true
python=${PYTHON:-.venv/bin/python}
corpora=${OMNIALPHA_CORPORA:-$out/corpora}
train() { "$python" -m omnialpha train "$@"; }

[ -f "$corpora/index.jsonl" ] || "$python" -m omnialpha.data.corpora "$corpora"
train vae "$corpora" --recipe nano_vae -o "$out/vae" "$@"
train dit "$corpora" --recipe nano_joint --vae "$out/vae/vae" -o "$out/joint" "$@"
train dit "$corpora" --recipe nano_finetune --model "$out/joint/pipeline" -o "$out/longer" "$@"
train publish "$out/vae" "$out/joint" "$out/longer" --corpora "$corpora" -o "$out/nano"
"$python" benchmarks/nano.py --corpora "$corpora" --model "$out/nano" --count "${OMNIALPHA_COUNT:-96}" \
    --result "$out/scores.json" --page "$out/scores.png"
