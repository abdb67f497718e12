#!/usr/bin/env bash
# The whole project at the paper's scale (§4.1): RGBA VAE, joint LoRA stage on all tasks, scores.
# Every stage resumes where it was stopped; run the script again until it ends.
#
#   MANIFEST=data/manifest.jsonl RGB_VAE=… LPIPS=… BENCHMARKS=… runs/paper.sh [OUT]
#
# What a machine has to bring, because no weights or pictures are part of this repository:
#   MANIFEST    training data: a manifest (docs/training.md) or the authors' .jsonc; its split "test" validates
#   RGB_VAE     folder of the RGB VAE to start from: the `vae` folder of Qwen/Qwen-Image-Edit-2509
#   LPIPS       folder of LPIPS' weights: vgg16-397923af.pth and vgg.pth
#   BASE        the base model; fetched from the hub when it is not a folder
#   BENCHMARKS  folder of the public test sets, each in a folder of its name; without it nothing is scored
#   GPUS        processes; the paper used 8 GPUs
#   CONFIG      accelerate's configuration; runs/fsdp2.yaml shards the base where it does not fit on one GPU
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/paper}
python=${PYTHON:-.venv/bin/python}
base=${BASE:-Qwen/Qwen-Image-Edit-2509}
: "${MANIFEST:?set MANIFEST to the training data, see the head of this script}"
: "${RGB_VAE:?set RGB_VAE to the folder of the RGB VAE, see the head of this script}"
: "${LPIPS:?set LPIPS to the folder of the LPIPS weights, see the head of this script}"
launch() {
  if [ -n "${CONFIG:-}" ]; then
    "$python" -m accelerate.commands.launch --config_file "$CONFIG" -m omnialpha "$@"
  else
    "$python" -m accelerate.commands.launch --num_processes "${GPUS:-8}" -m omnialpha "$@"
  fi
}

# Stage 1: 32k steps, batch 16.
launch train vae "$MANIFEST" --recipe paper_vae -o "$out/vae" \
    --set rgb_vae="$RGB_VAE" --set lpips_folder="$LPIPS" "${@:2}"
# Stage 2: LoRA of rank 256, 100k steps, batch 8.
launch train dit "$MANIFEST" --recipe paper_dit --model "$base" --vae "$out/vae/vae" -o "$out/dit" "${@:2}"
# Scores.
if [ -n "${BENCHMARKS:-}" ]; then
  "$python" -m omnialpha eval aim500 "$BENCHMARKS/aim500" --model "$base" --adapter "$out/dit/adapter" -o "$out/aim500.json"
  "$python" -m omnialpha eval rord "$BENCHMARKS/rord" --model "$base" --adapter "$out/dit/adapter" -o "$out/rord.json"
fi
