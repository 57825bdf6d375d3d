"""The commands that train a proxy or a target in several processes, with the settings of the run that asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from automixer_assets.files import atomic_path
from automixer_assets.launch.torchrun import Listener, train_under_torchrun
from automixer_assets.settings import Settings, Torchrun


@dataclass(frozen=True)
class TrainingJob:
    """What every training command needs.

    `settings` are those in force, which the file may not be: `--set` changes them for one run. `scratch` holds them and
    the processes' logs, `name` is for error messages.
    """

    launcher: Torchrun
    settings: Settings
    corpora: Iterable[Path]
    tokenizer: Path
    out: Path
    scratch: Path
    name: str

    def train_proxy(self, proxy: str, listener: Listener) -> None:
        """As `simulate` does in one process; raises as `train_under_torchrun`."""
        self._run("automixer_assets.proxy", ["--proxy", proxy], listener)

    def train_target(self, manifest: Path, lake_root: Path, seed: int, listener: Listener) -> None:
        """As the function of that name does in one process; raises as `train_under_torchrun`."""
        own = ["--manifest", str(manifest), "--lake", str(lake_root), "--seed", str(seed)]
        self._run("automixer_assets.mixture", own, listener)

    def _run(self, module: str, own: list[str], listener: Listener) -> None:
        with atomic_path(self.scratch / "settings.json") as path:
            path.write_text(self.settings.model_dump_json())
        shared = {"settings": self.scratch / "settings.json", "tokenizer": self.tokenizer, "out": self.out}
        arguments = [text for name, value in shared.items() for text in (f"--{name}", str(value))]
        arguments += [text for corpus in self.corpora for text in ("--corpus", str(corpus))]
        logs = self.scratch / "logs"
        train_under_torchrun(module, [*arguments, *own], self.launcher, logs, listener, self.name)
