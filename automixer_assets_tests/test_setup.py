"""`scripts/setup.sh` says in one sentence what is missing, installs once, and repairs; every make target has its help.

The script runs for real, in a copy, with nothing on PATH but standard tools and stand-ins for python3, pip, uv and df.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = "awk bash cat chmod cksum cp df dirname env grep head mkdir mv rm rmdir sed sleep tail touch uname"
PYTHON = f"""\
#!/usr/bin/env bash
# A stand-in for Python: answers what setup.sh asks, as the STUB_* variables say; `-m pip install` writes to $CALLS.
case "$1 ${{2:-}}" in
  "--version "*) echo "Python ${{STUB_VERSION:-3.11.7}}" ;;
  "-c "*"version_info < "*) [ "${{STUB_VERSION:-3.11.7}}" != 3.9.2 ] ;;
  "-c "*fcntl*) exec "{sys.executable}" -S "$@" ;;
  "-c "*metadata*) [ -n "${{STUB_TORCH:-}}" ] && echo "$STUB_TORCH" ;;
  "-c "*"%d.%d"*) echo "${{STUB_VERSION:-3.11.7}}" | sed 's/\\.[0-9]*$//' ;;
  "-c "*) ;;
  "-m venv")
    if [ -n "${{STUB_VENV_SAYS:-}}" ]; then echo "$STUB_VENV_SAYS"; exit 1; fi
    mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; cp "$0" "$3/bin/python" ;;
  "-m ensurepip") exit 1 ;;
  "-m pip")
    [ -z "${{STUB_NO_PIP:-}}" ] || exit 1
    [ "$3" = install ] || exit 0
    echo "pip $*" >>"$CALLS"; sleep "${{STUB_SLEEP:-0}}"
    if [ -n "${{STUB_PIP_SAYS:-}}" ]; then printf '%s\\n' "$STUB_PIP_SAYS"; exit 1; fi
    touch "${{0%/*}}/automixer"; chmod +x "${{0%/*}}/automixer" ;;
esac
"""
UV = """\
#!/usr/bin/env bash
case "$1" in
  venv) for folder in "$@"; do :; done
    mkdir -p "$folder/bin"; touch "$folder/pyvenv.cfg"; cp "${0%/*}/python3" "$folder/bin/python" ;;
  pip) echo "uv $*" >>"$CALLS"; touch .venv/bin/automixer; chmod +x .venv/bin/automixer ;;
  *) exit 1 ;;
esac
"""


@dataclass
class Checkout:
    """A copy of what setup.sh reads, in a folder with a space in its name, and its own PATH."""

    folder: Path
    bin: Path

    def command(self, name: str, script: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        calls = {"CALLS": str(self.folder / "calls"), "PATH": str(self.bin)}
        return subprocess.Popen(
            [str(self.bin / "bash"), "scripts/setup.sh"],
            cwd=self.folder,
            env=calls | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def setup(self, **environment: str) -> tuple[int, str]:
        process = self.start(**environment)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    @property
    def installs(self) -> list[str]:
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder, commands = tmp_path / "check out", tmp_path / "bin"
    (folder / "scripts").mkdir(parents=True)
    commands.mkdir()
    for name in ("scripts/setup.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "constraints.txt").write_text("numpy==2.4.6\nsympy==1.14.0\ntorch==2.13.0\n")
    for tool in TOOLS.split():
        found = shutil.which(tool)
        assert found, f"{tool} was not found"
        (commands / tool).symlink_to(found)
    made = Checkout(folder, commands)
    made.command("python3", PYTHON)
    return made


def _last_line(said: str) -> str:
    return said.strip().splitlines()[-1]


def test_a_fresh_checkout_is_installed_once_and_left_alone_after(checkout: Checkout):
    assert checkout.setup()[0] == 0
    assert checkout.setup() == (0, "")
    assert len(checkout.installs) == 1
    assert "-c constraints.txt -e .[dev]" in checkout.installs[0]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_edited_pins_are_installed(checkout: Checkout, name: str):
    checkout.setup()
    with (checkout.folder / name).open("a") as file:
        file.write("# edited\n")
    assert checkout.setup()[0] == 0
    assert len(checkout.installs) == 2


def test_an_old_python_is_named_with_its_version(checkout: Checkout):
    code, said = checkout.setup(STUB_VERSION="3.9.2")
    assert code == 1
    assert "python3 is too old (Python 3.9.2): install Python 3.11 or newer" in said
    assert not (checkout.folder / ".venv").exists()


def test_a_newer_python_beside_an_old_one_is_found(checkout: Checkout):
    checkout.command("python3", PYTHON.replace(":-3.11.7}", ":-3.9.2}"))
    checkout.command("python3.12", PYTHON.replace(":-3.11.7}", ":-3.12.1}"))
    code, said = checkout.setup()
    assert code == 0
    assert "creating .venv with Python 3.12.1" in said


def test_no_python_at_all(checkout: Checkout):
    (checkout.bin / "python3").unlink()
    assert "python3 was not found: install Python 3.11 or newer" in checkout.setup()[1]


def test_another_python_than_the_one_in_the_venv_is_refused_not_ignored(checkout: Checkout):
    checkout.setup()
    checkout.command("python3.12", PYTHON.replace(":-3.11.7}", ":-3.12.1}"))
    code, said = checkout.setup(PYTHON="python3.12")
    assert code == 1
    assert ".venv holds Python 3.11 and Python 3.12 was asked for: delete it" in said


DEBIAN = "The virtual environment was not created successfully because ensurepip is not available."


def test_a_missing_venv_module_names_the_package(checkout: Checkout):
    code, said = checkout.setup(STUB_VENV_SAYS=DEBIAN)
    assert code == 1
    assert "its venv module is missing: install it (Debian and Ubuntu: apt install python3-venv) or install uv" in said
    assert not (checkout.folder / ".venv").exists()


def test_without_the_venv_module_uv_makes_the_venv_and_pip_still_installs(checkout: Checkout):
    checkout.command("uv", UV)
    assert checkout.setup(STUB_VENV_SAYS=DEBIAN)[0] == 0
    assert [call.split()[0] for call in checkout.installs] == ["pip"]


def test_without_pip_uv_installs(checkout: Checkout):
    checkout.command("uv", UV)
    assert checkout.setup(STUB_VENV_SAYS=DEBIAN, STUB_NO_PIP="1")[0] == 0
    assert [call.split()[0] for call in checkout.installs] == ["uv"]


def test_without_pip_and_uv_both_are_named(checkout: Checkout):
    code, said = checkout.setup(STUB_NO_PIP="1")
    assert code == 1
    assert ".venv has no pip and uv was not found" in _last_line(said)


def test_a_venv_that_cannot_be_written_gives_the_reason(checkout: Checkout):
    said = checkout.setup(STUB_VENV_SAYS="Error: [Errno 13] Permission denied: '.venv'")[1]
    assert "could not be created" in said
    assert "Permission denied" in _last_line(said)


def test_low_disk_space_is_said_before_anything_is_written(checkout: Checkout):
    checkout.command("df", "#!/usr/bin/env bash\necho header\necho '/dev/x 9 9 1048576 50% /'\n")
    code, said = checkout.setup()
    assert code == 1
    assert "only 1024 MiB of disk space is left" in said
    assert not (checkout.folder / ".venv").exists()


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "the disk filled up",
        ),
        ("Failed to establish a new connection: [Errno 111] Connection refused", "no package registry answered"),
        ("ERROR: No matching distribution found for torch==2.13.0", "do not fit Python 3.11.7"),
        (
            "    The user requested (constraint) xxhash==9\nERROR: ResolutionImpossible",
            "the pins, among them xxhash==9 do not",
        ),
        ("error: metadata-generation-failed", "read .venv/install.log"),
    ],
)
def test_a_failed_install_shows_the_end_of_its_log_and_the_remedy(checkout: Checkout, log: str, sentence: str):
    code, said = checkout.setup(STUB_PIP_SAYS=log)
    assert code == 1
    assert log.splitlines()[-1] in said
    assert sentence in _last_line(said)
    assert checkout.setup()[0] == 0, "the next call goes on where the failed one stopped"


def test_half_written_packages_of_a_killed_install_are_installed_again(checkout: Checkout):
    packages = checkout.folder / ".venv" / "lib" / "python3.11" / "site-packages"
    checkout.setup(STUB_PIP_SAYS="killed")
    for name, files in {"half": ["METADATA"], "whole": ["METADATA", "INSTALLER", "RECORD"]}.items():
        (packages / f"{name}-1.dist-info").mkdir(parents=True)
        for file in files:
            (packages / f"{name}-1.dist-info" / file).touch()
    assert checkout.setup()[0] == 0
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]


def test_a_torch_of_the_users_own_is_not_pinned_but_the_one_installed_here_is(checkout: Checkout):
    code, said = checkout.setup(STUB_TORCH="2.11.0+cu128")
    assert code == 0
    assert "torch 2.11.0+cu128 was in .venv before and stays (constraints.txt pins 2.13.0)" in said
    assert "-c .venv/constraints-own-torch.txt" in checkout.installs[0]
    assert (checkout.folder / ".venv" / "constraints-own-torch.txt").read_text() == "numpy==2.4.6\n"

    (checkout.folder / ".venv" / ".setup-torch").write_text("2.11.0+cu128\n")
    (checkout.folder / "constraints.txt").write_text("torch==2.14.0\n")
    assert "was in .venv before" not in checkout.setup(STUB_TORCH="2.11.0+cu128")[1]
    assert "-c constraints.txt" in checkout.installs[1]


def test_a_moved_checkout_gets_a_new_venv(checkout: Checkout):
    checkout.setup()
    moved = Checkout(checkout.folder.rename(checkout.folder.with_name("moved")), checkout.bin)
    code, said = moved.setup()
    assert code == 0
    assert "making .venv anew" in said


def test_a_folder_that_is_no_venv_is_never_deleted(checkout: Checkout):
    (checkout.folder / ".venv").mkdir()
    (checkout.folder / ".venv" / "precious").touch()
    code, said = checkout.setup()
    assert code == 1
    assert ".venv exists and is no virtual environment" in said
    assert (checkout.folder / ".venv" / "precious").exists()


def test_two_setups_at_once_install_once(checkout: Checkout):
    processes = [checkout.start(STUB_SLEEP="0.5") for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(checkout.installs) == 1
    assert sum("waiting for another setup" in text for text in said) == 1


MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = [
    "help",
    "setup",
    "demo",
    "test",
    "test-exports",
    "test-ray",
    "test-s3",
    "test-ui",
    "check",
    "dev",
    "bench",
    "bench-peers",
    "clean",
]


def test_make_help_lists_every_target():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony and phony.group(1).split() == TARGETS
    listed = _make("help").stdout
    assert re.findall(r"^  make ([a-z0-9-]+) +\S+", listed, re.MULTILINE) == TARGETS


def test_make_clean_deletes_state_outside_the_checkout_only_when_forced(tmp_path: Path):
    folder, state = tmp_path / "check out", tmp_path / "state"
    folder.mkdir()
    state.mkdir()
    (folder / "Makefile").write_text(MAKEFILE)
    refused = _make("clean", f"AUTOMIXER_STATE={state}", cwd=folder)
    assert refused.returncode != 0
    assert "is outside this checkout: to delete it all the same, make clean FORCE=1" in refused.stderr
    assert _make("clean", "AUTOMIXER_STATE=..", "FORCE=1", cwd=folder).returncode != 0
    assert state.exists()
    assert _make("clean", f"AUTOMIXER_STATE={state}", "FORCE=1", cwd=folder).returncode == 0
    assert not state.exists()
    assert folder.exists()


@pytest.mark.parametrize("state", ["", ".automixer"])
def test_make_clean_deletes_the_default_state_and_the_environments(tmp_path: Path, state: str):
    (tmp_path / "Makefile").write_text(MAKEFILE)
    for name in (".automixer", ".venv", ".venv-peers", ".venv-exports", ".venv-s3"):
        (tmp_path / name).mkdir()
    assert _make("clean", f"AUTOMIXER_STATE={state}", cwd=tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]


def _make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    return subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
