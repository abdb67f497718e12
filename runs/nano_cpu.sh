#!/usr/bin/env bash
# Make the embedded checkpoint from nothing, on CPU cores: corpora, VAE, joint stage at 64², fine-tuning at 128², scores.
# Every stage resumes where it was stopped; run the script again until it ends.
#
#   runs/nano_cpu.sh [OUT] [--set key=value for the three training stages, e.g. --set steps=4 for a trial]
#
# Needs apt-get and npm (sources of the corpora) and the training environment: pip install -c constraints.txt -e .
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/nano}
shift || true
python=${PYTHON:-.venv/bin/python}
corpora=${OMNIALPHA_CORPORA:-$out/corpora}

[ -f "$corpora/index.jsonl" ] || "$python" -m omnialpha.data.corpora "$corpora"
train() { "$python" -m omnialpha.training "$@" --corpora "$corpora"; }
train vae --out "$out/vae" "$@"
train joint --out "$out/joint" --vae "$out/vae/vae" "$@"
train finetune --out "$out/finetune" --pipeline "$out/joint/pipeline" "$@"
train publish --out "$out/nano" --runs "$out/vae" "$out/joint" "$out/finetune"
"$python" benchmarks/nano.py --corpora "$corpora" --model "$out/nano" --result "$out/scores.json" --page "$out/scores.png" \
    --count "${OMNIALPHA_COUNT:-96}"
