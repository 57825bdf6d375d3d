"""Code versions of cheap assets: what their statements and functions say, comments and docstrings apart.

A new version only costs a cheap rebuild: what comes out the same keeps its data version, and nothing downstream moves.
Assets that cost accelerator time have a constant instead, raised by hand when their meaning changes.
"""

from __future__ import annotations

import ast
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

from automixer_assets.lake import digest_of
from automixer_assets.mixture.sql import load_sql


def sql_version(*names: str) -> str:
    """Version of SQL statements by their text, comments apart."""
    statements = [
        [line.rstrip() for line in load_sql(name).splitlines() if line.strip() and not line.lstrip().startswith("--")]
        for name in names
    ]
    return digest_of(statements)[:12]


def source_version(*modules: str) -> str:
    """Version of modules of this package by their syntax, docstrings and comments apart."""
    return digest_of([_without_docstrings(import_module(f"automixer_assets.{name}")) for name in modules])[:12]


def package_version(name: str) -> str:
    """Version of a package whose behaviour is part of the result."""
    return f"{name}-{metadata.version(name)}"


def _without_docstrings(module: ModuleType) -> str:
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0] = ast.Pass()
    return ast.unparse(tree)
