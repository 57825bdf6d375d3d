"""One world whose mixture `demo` was made in several ways; tests read it, or change files and put them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from automixer_assets.answers.find import find_inputs
from automixer_assets.answers.findings import Verification
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.verify import verify
from automixer_assets.progress import progress
from automixer_assets_tests.world import World

VARIANTS = {
    "capped": {"mixtures.demo.exhaustion_policy": "stop_and_raise_others", "mixtures.demo.max_epochs": 0.14},
    "smaller": {"mixtures.demo.top_share": 0.3},
    "uniform alpha": {"recipes.demo.alpha": "uniform"},
    "scaled": {"recipes.demo.normalisation": "median_mad"},
    "task_ranked": {"recipes.demo.normalisation": "task_rank"},
    "ranked": {"recipes.demo.normalisation": "rank", "mixtures.demo.weight_rule": "appendix_b"},
}
"""Name -> settings that differ from the finished world's."""


class Answers:
    """A world and the reference of every variant of its mixture."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.references: dict[str, str] = {}

    def made(self, variant: str, overrides: dict[str, object] | None = None) -> None:
        self.world.run("+weight_manifest", "demo", overrides=overrides)
        with self.world.active():
            self.references[variant] = find_inputs(self.world.instance, self.world.lake, "demo").manifest.reference

    def inputs(self, name: str) -> PinnedInputs:
        """Of a variant, a mixture or a file."""
        with self.world.active():
            return find_inputs(self.world.instance, self.world.lake, self.references.get(name, name))

    def verify(self, name: str) -> Verification:
        return verify(self.inputs(name), lambda label, total, unit: progress(label, total, unit, print))


@pytest.fixture(scope="session")
def answers(finished: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """`paper` is the demo's own mixture, `grown` the same with a third snapshot; the others as in VARIANTS."""
    world = finished.copy(tmp_path_factory.mktemp("answers") / "world")
    found = Answers(world)
    found.made("paper")
    for variant, overrides in VARIANTS.items():
        found.made(variant, overrides)
    world.add_snapshot()
    found.made("grown")
    yield found
    world.close()


@contextmanager
def changed(path: Path, change: Callable[[Path], object]) -> Iterator[None]:
    """Change or delete a file, and put it back."""
    content = path.read_bytes()
    change(path)
    try:
        yield
    finally:
        path.write_bytes(content)
