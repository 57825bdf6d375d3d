#!/usr/bin/env bash
# Create the virtual environment $1 with the extra s3 and a local S3 server; instant when nothing changed. It sees the
# packages of $2, the project's own environment, which stays as it is.
set -euo pipefail
CDPATH='' cd "$(dirname "$0")/.."
venv=$1
base=$2
stamp="$venv/.setup-done"
log="$venv/install.log"
fingerprint=$({ pwd -P; cat pyproject.toml scripts/setup-s3.sh; } | cksum)

say() { printf 'test-s3: %s\n' "$1" >&2; }

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ]; then exit 0; fi
say "installing into $venv takes a minute (to watch: tail -f '$log')"
rm -f "$stamp"
if [ ! -x "$venv/bin/python" ]; then "$base/bin/python" -m venv "$venv"; fi
site='import sysconfig; print(sysconfig.get_path("purelib"))'
"$base/bin/python" -c "$site" >"$("$venv/bin/python" -c "$site")/base.pth"
if ! "$venv/bin/python" -m pip install --no-input --disable-pip-version-check "s3fs>=2025.3" "moto[server]>=5.1" >"$log" 2>&1; then
  tail -n 3 "$log" >&2
  say "s3fs and moto could not be installed: read $log"
  exit 1
fi
printf '%s\n' "$fingerprint" >"$stamp"
