#!/usr/bin/env bash
# Create the virtual environment given as $1 and install the pinned packages into it; quick when nothing changed.
# Works with uv (where it can find the packages) or plain pip, and says what is missing in a sentence.
set -euo pipefail
venv=${1:?usage: setup.sh VENV}
python=${PYTHON:-python3}
stamp="$venv/.installed"
fingerprint=$(cat pyproject.toml constraints.txt scripts/setup.sh | cksum)

fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }

[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ] && [ -x "$venv/bin/automixer" ] && exit 0

command -v "$python" >/dev/null || fail "$python was not found: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$("$python" --version) is too old: Python 3.11 or newer is needed; name another: make PYTHON=/path/to/python3.11"
free_mib=$(df -Pm . | awk 'NR == 2 {print $4}')
[ -d "$venv" ] || [ "$free_mib" -ge 4096 ] ||
  fail "only $free_mib MiB of disk space here: the packages need about 3 GiB and the demo's state 0.2 GiB; free some space"

if [ ! -x "$venv/bin/python" ]; then
  echo "setup: creating $venv" >&2
  if ! "$python" -m venv "$venv" 2>/dev/null; then
    rm -rf "$venv"
    command -v uv >/dev/null || fail "$python cannot create virtual environments: install its venv module (Debian: apt install python3-venv) or uv"
    uv venv --quiet --seed --python "$python" "$venv"
  fi
fi
log="$venv/install.log"
echo "setup: installing packages (1 to 3 minutes; log: $log)" >&2
install_with_pip() { "$venv/bin/python" -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]' >"$log" 2>&1; }
install_with_uv() { uv pip install --python "$venv/bin/python" -c constraints.txt -e '.[dev]' >"$log" 2>&1; }
# pip first: it honours a machine's local wheels (find-links), without which a CPU machine pulls CUDA packages.
if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  install_with_pip || { tail -n 5 "$log" >&2; fail "installation failed: the full log is $log"; }
else
  command -v uv >/dev/null || fail "$venv has no pip and uv was not found: delete $venv, install python3-venv or uv, and try again"
  install_with_uv || { tail -n 5 "$log" >&2; fail "installation failed: the full log is $log"; }
fi
printf '%s' "$fingerprint" >"$stamp"
