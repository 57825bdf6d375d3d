#!/usr/bin/env bash
# Create the virtual environment $1 (by default .venv) and install the pinned packages into it; instant when nothing
# changed. pip does the installing, uv where there is no pip; what is missing is said in one sentence.
# Everything here runs with bash 3.2 and BSD tools, as macOS has them.
set -euo pipefail
CDPATH='' cd "$(dirname "$0")/.."
venv=${1:-.venv}
stamp="$venv/.setup-done"             # the venv's path and the fingerprint of what was installed
unfinished="$venv/.setup-unfinished"  # there while an install runs; a killed one leaves it behind
torch_record="$venv/.setup-torch"     # the torch that this script installed; any other is the user's own and kept
log="$venv/install.log"
fingerprint=$({ pwd -P; cat pyproject.toml constraints.txt scripts/setup.sh; } | cksum)

say() { printf 'setup: %s\n' "$1" >&2; }
fail() { say "$1"; exit 1; }
trap 'say "interrupted: run the same command again to go on"; exit 130' INT TERM

main() {
  if [ -z "${PYTHON:-}" ] && up_to_date; then return; fi
  choose_python
  wait_for_other_setups
  remove_broken_venv
  if [ -d "$venv" ]; then refuse_other_python; fi
  if up_to_date; then return; fi
  require_disk_space
  if [ ! -x "$venv/bin/python" ]; then create_venv; fi
  install_packages
}

venv_path() { (CDPATH='' cd "$venv" && pwd -P); }

up_to_date() {
  [ -f "$stamp" ] && [ -x "$venv/bin/python" ] && [ -x "$venv/bin/automixer" ] &&
    [ "$(cat "$stamp")" = "$(venv_path)
$fingerprint" ]
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

choose_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else
    set -- "$venv/bin/python" python3 python3.13 python3.12 python3.14 python3.11 "$(uv python find '>=3.11' 2>/dev/null || true)"
  fi
  for candidate in "$@"; do
    if new_enough "$candidate"; then python=$candidate; return; fi
  done
  python=${PYTHON:-python3}
  command -v "$python" >/dev/null ||
    fail "$python was not found: install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3"
  fail "$python is too old ($("$python" --version 2>&1)): install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3"
}

# Two calls at once must not write into one venv. The lock is on an open file that this script and its children share,
# so it ends with the last of them, however they end. Python takes it because macOS has no flock command.
wait_for_other_setups() {
  exec 9<scripts/setup.sh
  "$python" -c '
import fcntl, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.stderr.write("setup: waiting for another setup of this checkout\n")
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks: go on without
'
}

# Broken: its Python is gone, or it was finished elsewhere and moved or copied here, so its scripts point there.
remove_broken_venv() {
  [ -e "$venv" ] || return 0
  if "$venv/bin/python" -c '' 2>/dev/null; then
    [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" != "$(venv_path)" ] || return 0
    if has_own_torch; then
      fail "$venv was made in another folder and holds a torch of your own: delete it (rm -r '$venv') and make it anew here"
    fi
  fi
  [ -f "$venv/pyvenv.cfg" ] || rmdir "$venv" 2>/dev/null ||
    fail "$venv exists and is no virtual environment: move it away, or name another: make setup VENV=other"
  say "making $venv anew: it was moved here, or its Python is gone"
  rm -rf "$venv"
  choose_python  # the one chosen before may have been this venv's
}

refuse_other_python() {
  local has wanted version='import sys; print("%d.%d" % sys.version_info[:2])'
  has=$("$venv/bin/python" -c "$version")
  wanted=$("$python" -c "$version")
  if ! new_enough "$venv/bin/python" || { [ -n "${PYTHON:-}" ] && [ "$has" != "$wanted" ]; }; then
    fail "$venv holds Python $has and Python $wanted was asked for: delete it (rm -r '$venv') and try again"
  fi
}

require_disk_space() {
  local free_mib
  [ ! -x "$venv/bin/automixer" ] || return 0
  free_mib=$(df -Pk . | awk 'NR == 2 {print int($4 / 1024)}')
  [ "${free_mib:-4096}" -ge 4096 ] ||
    fail "only $free_mib MiB of disk space is left in $PWD: the packages need about 3 GiB (8 GiB with CUDA) and the demo 0.2 GiB, so free 4 GiB or more"
}

create_venv() {
  local output
  say "creating $venv with $("$python" --version 2>&1)"
  if output=$("$python" -m venv "$venv" 2>&1); then return; fi
  rm -rf "$venv"
  if command -v uv >/dev/null; then
    # --seed puts pip in; where uv cannot get it, uv itself installs.
    if output=$(uv venv --seed --python "$python" "$venv" 2>&1 || uv venv --python "$python" "$venv" 2>&1); then return; fi
    rm -rf "$venv"
  elif printf '%s' "$output" | grep -qE 'ensurepip|No module named .?venv'; then
    fail "$python cannot create $venv, its venv module is missing: install it (Debian and Ubuntu: apt install python3-venv) or install uv"
  fi
  fail "$venv could not be created in $PWD, see why and try again: $(printf '%s' "$output" | tail -n 1)"
}

torch_version() { "$venv/bin/python" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null || true; }

has_own_torch() { [ -n "$(torch_version)" ] && [ "$(torch_version)" != "$(cat "$torch_record" 2>/dev/null || true)" ]; }

install_packages() {
  local constraints=constraints.txt own_torch='' pinned_torch
  pinned_torch=$(sed -n 's/^torch==//p' constraints.txt)
  rm -f "$stamp"
  if [ -f "$unfinished" ]; then forget_half_written_packages; fi
  touch "$unfinished"
  if has_own_torch; then
    own_torch=$(torch_version)
    constraints="$venv/constraints-own-torch.txt"
    grep -vE '^(torch|sympy)==' constraints.txt >"$constraints"  # sympy too: torch 2.6 wants another
  fi
  say "installing packages takes 1 to 3 minutes, longer on a slow network (to watch: tail -f '$log')"
  run_installer "$constraints" >"$log" 2>&1 </dev/null || explain_failure
  if [ -z "$own_torch" ]; then
    torch_version >"$torch_record"
  elif [ "${own_torch%%+*}" != "$pinned_torch" ]; then
    say "torch $(torch_version) was in $venv before and stays (constraints.txt pins $pinned_torch)"
  fi
  rm -f "$unfinished"
  printf '%s\n%s\n' "$(venv_path)" "$fingerprint" >"$stamp.part"
  mv "$stamp.part" "$stamp"
}

# An installer writes INSTALLER and RECORD last; without them it would still take the package for installed.
forget_half_written_packages() {
  local folder
  for folder in "$venv"/lib/python*/site-packages/*.dist-info; do
    if [ -d "$folder" ] && ! { [ -f "$folder/INSTALLER" ] && [ -f "$folder/RECORD" ]; }; then rm -rf "$folder"; fi
  done
}

# pip before uv: on a machine whose pip is told where CPU wheels of torch lie, uv would fetch gigabytes of CUDA.
run_installer() {
  if "$venv/bin/python" -m pip --version || "$venv/bin/python" -m ensurepip; then
    PIP_USER=0 "$venv/bin/python" -m pip install --no-input --disable-pip-version-check -c "$1" -e '.[dev]'
  elif command -v uv; then
    uv pip install --python "$venv/bin/python" -c "$1" -e '.[dev]'
  else
    echo "neither pip nor uv"
    return 1
  fi
}

explain_failure() {
  tail -n 5 "$log" | sed 's/^/  /' >&2
  if grep -q '^neither pip nor uv$' "$log"; then
    fail "$venv has no pip and uv was not found: delete it (rm -r '$venv'), install python3-venv or uv, and try again"
  elif grep -qiE 'no space left|disk quota' "$log"; then
    fail "the disk filled up while installing into $venv: free about 3 GiB (8 GiB with CUDA; the folder for temporary files counts too) and try again"
  elif grep -qiE 'new connection|name resolution|unreachable|connection (refused|reset|timed out|broken|error)|dns error|error sending request|proxyerror|timeouterror|timed out' "$log"; then
    fail "no package registry answered: connect to the network, or tell pip of your mirror or proxy (PIP_INDEX_URL, HTTPS_PROXY), and try again; log: $log"
  elif grep -qiE 'no matching distribution|resolutionimpossible|no solution found|no wheels' "$log"; then
    fail "the pins$(sed -n 's/.*requested (constraint)/, among them/p' "$log" | tail -n 1) do not fit $("$venv/bin/python" --version) on $(uname -sm) (log: $log): delete $venv and try Python 3.11 to 3.13, e.g. make setup PYTHON=python3.12"
  fi
  fail "installing into $venv failed: read $log, mend what it names and try again"
}

main
