"""Load a statement from `automixer_assets/sql` and run it in an in-memory DuckDB of its own.

Statements take named parameters and, where their header says so, a view over an Arrow table. Nothing is templated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa

from automixer_assets.lake_filesystem import (
    failures_are_said,
    names_inwards,
    register,
    table_inwards,
    table_outwards,
)

MEMORY_LIMIT = "2GB"
"""Of one database. What a shard's tables take comes on top, so that a process stays below 4 GB."""


def load_sql(name: str) -> str:
    """Text of `automixer_assets/sql/NAME.sql`."""
    return (resources.files("automixer_assets") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


class Database:
    """One in-memory DuckDB; made by `open_database`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def table(self, name: str, parameters: Mapping[str, Any], **views: pa.Table) -> pa.Table:
        """Result of the statement NAME; each of `views` is visible to it under its keyword."""
        return table_outwards(self._relation(name, parameters, views).to_arrow_table())

    def batches(
        self, name: str, parameters: Mapping[str, Any], rows: int = 2**18, **views: pa.Table
    ) -> pa.RecordBatchReader:
        """The same in batches, for results larger than memory."""
        return self._relation(name, parameters, views).to_arrow_reader(rows)

    def store(self, name: str, parameters: Mapping[str, Any], *, append: bool = False, into: str | None = None) -> None:
        """Keep the statement's result as table `into`, by default of its name, or add to it; it spills as all does."""
        table = into or name
        command = f"INSERT INTO {table}" if append else f"CREATE OR REPLACE TABLE {table} AS"
        self._connection.execute(f"{command} {load_sql(name)}", dict(names_inwards(parameters)))

    def _relation(
        self, name: str, parameters: Mapping[str, Any], views: Mapping[str, pa.Table]
    ) -> duckdb.DuckDBPyRelation:
        for view, table in views.items():
            self._connection.register(view, table_inwards(table))
        return self._connection.sql(load_sql(name), params=dict(names_inwards(parameters)))


@contextmanager
def open_database(*, threads: int = 1, memory_limit: str = MEMORY_LIMIT) -> Iterator[Database]:
    """A database that spills to a temporary folder beyond its memory limit.

    One thread unless asked: sums of doubles then have one order, and shards are small.
    """
    with TemporaryDirectory(prefix="automixer-spill-") as spill:
        config: dict[str, Any] = {"threads": threads, "temp_directory": spill, "memory_limit": memory_limit}
        with duckdb.connect(":memory:", config=config) as connection:
            connection.execute("SET enable_progress_bar = false")  # it would be printed among the output of commands
            with failures_are_said(register(connection)):
                yield Database(connection)


def run_sql(name: str, parameters: Mapping[str, Any], **views: pa.Table) -> pa.Table:
    """Run one statement in a database of its own."""
    with open_database() as database:
        return database.table(name, parameters, **views)
