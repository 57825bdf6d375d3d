#!/usr/bin/env bash
# Create the virtual environment $1 with the trainers' libraries that read our exports; instant when nothing changed.
# The project itself is not installed: tests run from the checkout, and Dagster stays out of the trainers' way.
set -euo pipefail
CDPATH='' cd "$(dirname "$0")/.."
venv=$1
requirements=automixer_assets_tests/export/real/requirements.txt
without_dependencies=automixer_assets_tests/export/real/requirements-no-deps.txt
stamp="$venv/.setup-done"
log="$venv/install.log"
fingerprint=$({ pwd -P; cat "$requirements" "$without_dependencies" scripts/setup-exports.sh; } | cksum)

say() { printf 'test-exports: %s\n' "$1" >&2; }

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ]; then exit 0; fi
free_mib=$(df -Pk . | awk 'NR == 2 {print int($4 / 1024)}')
if [ "${free_mib:-8192}" -lt 8192 ]; then
  say "only $free_mib MiB of disk space is left in $PWD: the trainers' libraries need about 4 GiB, so free 8 GiB or more"
  exit 1
fi
say "installing into $venv takes a few minutes (to watch: tail -f '$log')"
if [ ! -x "$venv/bin/python" ]; then "${PYTHON:-python3}" -m venv "$venv"; fi
rm -f "$stamp"
pip() { "$venv/bin/python" -m pip install --no-input --disable-pip-version-check "$@"; }
if ! { pip -r "$requirements" && pip --no-deps -r "$without_dependencies"; } >"$log" 2>&1; then
  tail -n 3 "$log" >&2
  say "the trainers' libraries could not be installed: read $log"
  exit 1
fi
printf '%s\n' "$fingerprint" >"$stamp"
