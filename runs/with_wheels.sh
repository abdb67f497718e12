#!/usr/bin/env bash
# Run a command where nothing can be installed: this package from the working tree, missing packages from carried wheels.
#
#   WHEELS=DIR runs/with_wheels.sh python3 benchmarks/gpu_20b.py
#
# Of the packages that omnialpha needs, a machine with PyTorch often lacks diffusers alone. Fetch what is missing before,
# where pip works, for the Python and the system of the other machine, for example:
#
#   pip download --no-deps --only-binary=:all: --python-version 3.12 -d wheels diffusers==0.42.1 importlib_metadata==10.2.0
#
# The wheels are unpacked once, beside the working tree's runs (runs/site, ignored by git), and never installed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
site=$root/runs/site
if [ -n "${WHEELS:-}" ] && [ ! -d "$site" ]; then
  rm -rf "$site.partial"
  for wheel in "$WHEELS"/*.whl; do
    python3 -m zipfile -e "$wheel" "$site.partial"
  done
  mv "$site.partial" "$site"
fi
export PYTHONPATH=$root/src:$site${PYTHONPATH:+:$PYTHONPATH}
exec "$@"
