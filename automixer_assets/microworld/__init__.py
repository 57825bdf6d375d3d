"""The embedded demo corpus and its eight tasks: small enough for a laptop, with the truth known. No Dagster."""

from automixer_assets.microworld.files import SNAPSHOTS, write_microworld
from automixer_assets.microworld.skills import TASKS

__all__ = ["SNAPSHOTS", "TASKS", "write_microworld"]
