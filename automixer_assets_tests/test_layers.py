"""Three kinds of code, never mixed: the method knows nothing of Dagster, and files stay short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from automixer_assets.resources import PROJECT_ROOT

PACKAGE = PROJECT_ROOT / "automixer_assets"
METHOD = (
    "corpus",
    "proxy",
    "benchmark",
    "influence",
    "mixture",
    "export",
    "scorers",
    "mixers",
    "microworld",
    "settings",
    "planning",
)
METHOD_FILES = sorted(
    [path for folder in METHOD for path in (PACKAGE / folder).rglob("*.py")]
    + [
        PACKAGE / f"{name}.py"
        for name in (
            "lake",
            "lake_artifact",
            "lake_path",
            "lake_filesystem",
            "files",
            "errors",
            "comparison",
            "progress",
        )
    ]
)
ORCHESTRATION = ("dagster", "automixer_assets.assets", "automixer_assets.lake_asset", "automixer_assets.metadata")


def _imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


@pytest.mark.parametrize("path", METHOD_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_method_never_imports_dagster(path: Path):
    found = {name for name in _imported(path) for layer in ORCHESTRATION if (name + ".").startswith(layer + ".")}
    assert not found


def test_no_file_is_longer_than_four_hundred_lines():
    long = {str(path): n for path in PACKAGE.rglob("*.py") if (n := len(path.read_text().splitlines())) > 400}
    assert not long


def test_definitions_fit_on_a_page():
    assert len((PACKAGE / "definitions.py").read_text().splitlines()) <= 40
