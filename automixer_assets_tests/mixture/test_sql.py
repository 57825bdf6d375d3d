from __future__ import annotations

from importlib import resources

import duckdb
import pytest

from automixer_assets.mixture.sql import load_sql

STATEMENTS = sorted(
    path.name.removesuffix(".sql")
    for path in (resources.files("automixer_assets") / "sql").iterdir()
    if path.name.endswith(".sql")
)
VIEWS = {
    "joint_influence": "CREATE VIEW utilities AS SELECT 'd' AS doc_id, 1 AS n_tokens, 0.5 AS \"utility__a-1.b\"",
    "ranked_utility": 'CREATE VIEW utilities AS SELECT 1 AS "row", 0.5 AS utility',
    "kept_utility": 'CREATE VIEW joint_shard AS SELECT 1 AS "row", \'d\' AS doc_id, 0.5 AS "utility__a-1.b"',
    "tied_documents": "CREATE TABLE tied_rows AS SELECT 'g' AS \"group\", 1 AS rank, 'a.parquet' AS file, 1 AS \"row\"",
    "last_tied_documents": """CREATE TABLE tied_documents AS
        SELECT 'g' AS "group", 1 AS rank, 'd' AS doc_id, 'A' AS snapshot, 's' AS shard, 1 AS "row" """,
    "utility_at_rank": "CREATE VIEW bucket_utilities AS SELECT 0.5 AS utility, 1 AS n_documents",
    "group_memberships": '''CREATE VIEW kept_utilities AS
        SELECT 1 AS n_tokens, 0.1 AS joint_utility, 0.5 AS "kept__a-1.b"''',
    "later_copies": "CREATE VIEW removed AS SELECT 'A' AS snapshot, 's' AS shard, 1 AS \"row\"",
    "sample_keys": "CREATE VIEW documents AS SELECT 1 AS \"row\", 'd' AS doc_id, 0.5 AS weight",
    "percentile_statistics": """CREATE VIEW range_sums AS SELECT 'p00-05' AS range, 1 AS n_documents, 1 AS n_tokens,
        1 AS n_language_score, 1.0 AS language_score, 1 AS n_score, 1.0 AS score, 1 AS n_int_score, 1.0 AS int_score,
        0 AS position""",
}


NOT_IN_THE_PAPER = {
    *(
        "exposure",
        "exposure_histogram",
        "exposure_summary",
        "candidate_totals",
        "group_candidates",
        "unusable_utilities",
    ),
    *("characteristic_values", "document_values", "document_numbers", "group_examples"),
    *("sampled_documents", "sampled_members", "hashed_members"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_says_what_it_is(name):
    header = [line for line in load_sql(name).splitlines() if line.startswith("--")]
    for part in ("-- Grain:", "-- Input:", "-- Output:", "-- Shell:"):
        assert any(line.startswith(part) for line in header), part
    assert name in NOT_IN_THE_PAPER or any("(paper" in line or "DESIGN" in line for line in header)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_can_be_pasted_into_a_shell(name):
    with duckdb.connect(":memory:") as connection:
        assert len(connection.extract_statements(load_sql(name))) == 1
        if name in VIEWS:
            connection.execute(VIEWS[name])
        connection.execute(f"PREPARE q AS {load_sql(name)}")
