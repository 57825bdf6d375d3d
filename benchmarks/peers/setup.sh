#!/usr/bin/env bash
# Create the virtual environment $1 with this project and the libraries of requirements.txt; instant when nothing changed.
# A library that cannot be installed is named and left out: the benchmark then reports its import error.
set -euo pipefail
CDPATH='' cd "$(dirname "$0")/../.."
venv=$1
fingerprint=$({ pwd -P; cat constraints.txt benchmarks/peers/requirements.txt benchmarks/peers/setup.sh; } | cksum)
stamp="$venv/.setup-done"
log="$venv/install.log"
# What scoring needs of this project's dependencies; its other ones stay out of the libraries' way.
needed=(numpy polars psutil pyarrow pydantic pyyaml safetensors tokenizers torch transformers accelerate datasets)

say() { printf 'bench-peers: %s\n' "$1" >&2; }
install() { "$venv/bin/python" -m pip install --no-input --disable-pip-version-check -c constraints.txt "$@" >>"$log" 2>&1; }

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ]; then exit 0; fi
say "installing into $venv takes a few minutes and 2 GB (to watch: tail -f '$log')"
if [ ! -x "$venv/bin/python" ]; then "${PYTHON:-python3}" -m venv "$venv"; fi
rm -f "$stamp"
: >"$log"
if ! { install "${needed[@]}" && install --no-deps -e .; }; then
  tail -n 3 "$log" >&2
  say "this project could not be installed: read $log"
  exit 1
fi
if ! install -r benchmarks/peers/requirements.txt; then
  grep -vE '^(#|$)' benchmarks/peers/requirements.txt | while read -r requirement; do
    install "$requirement" || say "$requirement could not be installed: $(grep -m 1 '^ERROR' "$log" || echo "read $log")"
  done
fi
# bergson and kronfluence require these without using them here. Built for another torch than the one that is installed
# (CUDA wheels beside a CPU torch), they cannot be imported, and then transformers cannot be either.
for module in torchvision torchaudio; do
  if ! "$venv/bin/python" -c "import $module" 2>>"$log"; then
    "$venv/bin/python" -m pip uninstall --yes "$module" >>"$log" 2>&1
  fi
done
printf '%s\n' "$fingerprint" >"$stamp"
