#!/usr/bin/env bash
# Make the embedded checkpoint on one GPU: the recipes of nano_cpu.sh with larger batches, then 128² and 256².
# Stages: the VAE; the joint stage at 64² from random weights; the same for longer; fine-tuning at 128² and at 256².
# Each takes the minutes that it is given: a short trial tells the speed, and so the number of steps.
#
#   runs/nano_gpu.sh [OUT] [--set key=value, for all stages, e.g. --set seed=1]
#
# A finished stage is not repeated, a stage that was cut off goes on from its newest checkpoint: run the script again
# until it ends. Where a run may take ten minutes and files that travel are limited (64 MiB there, 16 MiB each back):
#
#   LIMIT=9.5 CARRY=$OUT WHEELS=wheels CORPORA_ZIP=corpora.zip runs/with_wheels.sh runs/nano_gpu.sh
#
# stops in time and leaves the newest finished checkpoint in CARRY, in parts of 15 MiB. As long as the machine stays the
# same, the next command goes on with everything there is. On another machine, put the carried checkpoint in the place of
# the embedded one, which is as large and travels anyway, and go on from it without the first two stages:
#
#   cat CARRY/nano.tar.part-* | tar -x -C src/omnialpha/assets       # do not commit this
#   START=nano LIMIT=9.5 … runs/with_wheels.sh runs/nano_gpu.sh
#
# Environment: OMNIALPHA_CORPORA is a folder of prepared corpora; without it CORPORA_ZIP is unpacked (made by
# `python -m omnialpha.data.pack --quality 80`: 22 MB), else they are fetched. MINUTES are those of the five stages,
# LIMIT those of this command, WORKERS the processes that draw pictures, PYTHON the interpreter.
set -euo pipefail
began=$SECONDS
cd "$(dirname "$0")/.."
out=runs/nano_gpu
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
  out=$1
  shift
fi
python=${PYTHON:-python3}
corpora=${OMNIALPHA_CORPORA:-$out/corpora}
read -r -a minutes <<<"${MINUTES:-3.5 4.5 8 4 3.5}"
trial_steps=${TRIAL_STEPS:-100}
common=(--set workers="${WORKERS:-12}" --set mixed_precision="${PRECISION:-bf16}" --set save_every=100)
changes=("$@")
stages=()

train() { "$python" -m omnialpha train "$@"; }

# Seconds of this command that are left before it has to save what there is; many without a LIMIT.
left() {
  awk -v limit="${LIMIT:-100000}" -v passed=$((SECONDS - began)) 'BEGIN { printf "%d", limit * 60 - passed - 30 }'
}

# The newest finished checkpoint in half precision with its model card; in parts where it can be carried from.
publish() {
  [ ${#stages[@]} -gt 0 ] && [ "${stages[-1]}" != "$out/vae" ] || return 0
  train publish "${stages[@]}" --corpora "$corpora" -o "$out/nano"
  [ -z "${CARRY:-}" ] || tar -C "$out" -cf - nano | split -b 15M - "$CARRY/nano.tar.part-"
}

out_of_time() {
  echo "the time is up: run the same command again to go on" >&2
  publish
  exit 3
}

# stage NAME MINUTES RESULT COMMAND…: train until RESULT is there, for as many steps as fit into the minutes.
stage() {
  local folder=$out/$1 length=$2 result=$3 status=0
  shift 3
  if [ ! -e "$folder/$result" ]; then
    [ "$(left)" -gt 60 ] || out_of_time
    if [ ! -f "$folder.steps" ]; then
      train "$@" -o "$folder.trial" --set steps="$trial_steps" --set log_every="$trial_steps"
      "$python" - "$folder.trial/log.jsonl" "$length" "$trial_steps" >"$folder.steps" <<'PYTHON'
import json, sys
log, minutes, steps = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
last = [record for line in open(log) if "samples_per_s" in (record := json.loads(line))][-1]
print(max(2, int(60 * minutes * last["samples_per_s"] * steps / last["samples"])))
PYTHON
      rm -rf "$folder.trial"
    fi
    # What is interrupted loses the steps since its newest checkpoint and nothing else.
    timeout --signal=INT --kill-after=10 "$(left)" "$python" -m omnialpha train "$@" -o "$folder" \
      --set steps="$(cat "$folder.steps")" || status=$?
    case $status in
      0) ;;
      124 | 137) out_of_time ;;
      *) exit "$status" ;;
    esac
  fi
  stages+=("$folder")
}

# The joint stages: NAME MINUTES, what they start from, their own settings.
joint() {
  stage "$1" "$2" pipeline dit "$corpora" "${@:3}" "${common[@]}" --set batch_size=1024 "${changes[@]}"
}

mkdir -p "$out"
if [ ! -f "$corpora/index.jsonl" ]; then
  if [ -n "${CORPORA_ZIP:-}" ]; then
    "$python" -m zipfile -e "$CORPORA_ZIP" "$corpora"
  else
    "$python" -m omnialpha.data.corpora "$corpora"
  fi
fi

start=${START:-$out/joint/pipeline}
if [ -z "${START:-}" ]; then
  stage vae "${minutes[0]}" vae vae "$corpora" --recipe nano_vae "${common[@]}" --set batch_size=256 \
    --set micro_batch=256 "${changes[@]}"
  joint joint "${minutes[1]}" --recipe nano_joint --vae "$out/vae/vae" --set batch_tokens=32768
fi
# From stage to stage the pictures grow and the learning rate falls.
joint longer "${minutes[2]}" --recipe nano_finetune --model "$start" --set batch_tokens=32768
joint at128 "${minutes[3]}" --recipe nano_finetune --model "$out/longer/pipeline" --set batch_tokens=65536 \
  --set size=128 --set learning_rate=1e-3
joint at256 "${minutes[4]}" --recipe nano_finetune --model "$out/at128/pipeline" --set batch_tokens=65536 \
  --set size=256 --set learning_rate=5e-4
publish
