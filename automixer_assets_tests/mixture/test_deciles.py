"""Deciles of utility and retrieval of planted documents against plain Python."""

from __future__ import annotations

import math
from itertools import pairwise, product
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.deciles import (
    JOINT,
    LABELS_SCHEMA,
    NO_LABELS,
    UNLABELLED,
    Labels,
    read_labels,
    write_deciles,
)
from automixer_assets.mixture.passes import JointShard
from automixer_assets.pages.deciles import decile_tables, show_deciles
from automixer_assets_tests.mixture.builders import Document, folder, joint_tables, write_joint

LATE_HALF: dict[str, str | None] = {f"d{row}": "late" if row >= 10 else "early" for row in range(20)}
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def write_documents(root: Path, documents: list[Document], dumps: dict[str, str | None]) -> dict[tuple[str, str], Path]:
    """Tokenised shards with `dump` and a `score` of twice the tokens, but no other quality column."""
    paths = {}
    for place in dict.fromkeys((each.snapshot, each.shard) for each in documents):
        rows = [each for each in documents if (each.snapshot, each.shard) == place]
        table = {
            "doc_id": pa.array([each.doc_id for each in rows], pa.string()),
            "dump": pa.array([dumps[each.doc_id] for each in rows], pa.string()),
            "score": pa.array([2.0 * each.n_tokens if each.n_tokens % 2 else None for each in rows], pa.float64()),
        }
        paths[place] = root / "-".join(place)
        pq.write_table(pa.table(table), paths[place])
    return paths


def utility(document: Document, ranking: str) -> float:
    return document.joint_utility if ranking == JOINT else document.utilities[ranking]


def by_decile(documents: list[Document], ranking: str) -> list[list[Document]]:
    ordered = sorted(utility(each, ranking) for each in documents)
    ends = [-math.inf, *(ordered[math.ceil(number * len(ordered) / 10) - 1] for number in range(1, 11))]
    return [[each for each in documents if low < utility(each, ranking) <= high] for low, high in pairwise(ends)]


def tables(
    root: Path, joint: list[JointShard], documents: dict[tuple[str, str], Path], labels: Labels, top_share: float
) -> dict[str, pl.DataFrame]:
    write_deciles(joint=joint, documents=documents, labels=labels, top_share=top_share, out=root)
    return {name: pl.read_parquet(root / f"{name}.parquet") for name in ("deciles", "decile_shares", "retrieval")}


@quick
@given(table=joint_tables(), data=st.data())
def test_deciles_agree_with_plain_python(table, data):
    groups, documents = table
    names = sorted({each.doc_id for each in documents})
    dumps = {name: data.draw(st.sampled_from([None, "x", "y"])) for name in names}
    labels = {name: data.draw(st.sampled_from([None, "good", "bad"])) for name in names}
    known = [(name, label) for name, label in labels.items() if label is not None]
    with folder() as root:
        joint, paths = write_joint(root, documents, groups), write_documents(root, documents, dumps)
        found = tables(root, joint, paths, Labels(pl.DataFrame(known, LABELS_SCHEMA, orient="row")), 0.5)
    assert found["deciles"]["ranking"].unique(maintain_order=True).to_list() == [JOINT, *groups]
    rows = {(row["ranking"], row["decile"]): row for row in found["deciles"].to_dicts()}
    shares = {tuple(row[:4]): row[4:] for row in found["decile_shares"].iter_rows()}
    expected_shares = 0
    for ranking in (JOINT, *groups):
        for number, members in enumerate(by_decile(documents, ranking), start=1):
            row = rows[ranking, number]
            scores = [2 * each.n_tokens for each in members if each.n_tokens % 2]
            assert row["n_documents"] == len(members)
            assert row["mean_tokens"] == (sum(m.n_tokens for m in members) / len(members) if members else None)
            assert row["mean_score"] == (pytest.approx(sum(scores) / len(scores)) if scores else None)
            assert row["mean_int_score"] is None
            kinds = {"source": lambda d: dumps[d.doc_id] or d.snapshot}
            kinds |= {"label": lambda d: labels[d.doc_id] or UNLABELLED} if known else {}
            for kind, value_of in kinds.items():
                for value in {value_of(each) for each in members}:
                    own = [each for each in members if value_of(each) == value]
                    whole = [each for each in documents if value_of(each) == value]
                    n, of_decile, of_value = shares[ranking, kind, number, value]
                    assert (n, of_decile, of_value) == (
                        len(own), pytest.approx(len(own) / len(members)), pytest.approx(len(own) / len(whole))
                    )  # fmt: skip
                    expected_shares += 1
    assert len(shares) == expected_shares


@quick
@given(table=joint_tables(), data=st.data(), top_share=st.sampled_from([0.1, 0.5, 1.0]))
def test_retrieval_agrees_with_plain_python(table, data, top_share):
    groups, documents = table
    names = sorted({each.doc_id for each in documents})
    planted = data.draw(st.sets(st.sampled_from(names), min_size=1))
    labels = pl.DataFrame([(name, "good" if name in planted else "bad") for name in names], LABELS_SCHEMA, orient="row")
    with folder() as root:
        joint, paths = write_joint(root, documents, groups), write_documents(root, documents, dict.fromkeys(names))
        found = tables(root, joint, paths, Labels(labels, ("good",)), top_share)["retrieval"].to_dicts()
    assert [row["ranking"] for row in found] == [JOINT, *groups]
    for row in found:
        values = [(utility(each, row["ranking"]), each.doc_id in planted) for each in documents]
        good, bad = ([value for value, is_planted in values if is_planted == wanted] for wanted in (True, False))
        wins = [(high > low) + (high == low) / 2 for high, low in product(good, bad)]
        n_top = math.ceil(round(top_share * len(documents), 9))
        threshold = sorted((value for value, _ in values), reverse=True)[n_top - 1]
        above, tied = (
            [is_planted for value, is_planted in values if value > threshold],
            [is_planted for value, is_planted in values if value == threshold],
        )
        in_top = sum(above) + sum(tied) * (n_top - len(above)) / len(tied)
        assert row["auc"] == (pytest.approx(sum(wins) / len(wins)) if wins else None)
        assert (row["n_documents"], row["n_planted"], row["n_top"]) == (len(documents), len(good), n_top)
        assert row["precision"] == pytest.approx(in_top / n_top)
        assert row["recall"] == pytest.approx(in_top / len(good))
        assert row["precision_by_chance"] == pytest.approx(len(good) / len(documents))


def test_without_labels_there_is_nothing_about_them(tmp_path):
    documents = [Document("A", "shard-00000", row, f"d{row}", 3, {"g": float(row)}, float(row)) for row in range(5)]
    joint, paths = (
        write_joint(tmp_path, documents, ["g"]),
        write_documents(tmp_path, documents, {f"d{i}": "x" for i in range(5)}),
    )
    found = tables(tmp_path, joint, paths, NO_LABELS, 0.5)
    assert set(found["decile_shares"]["kind"]) == {"source"}
    assert found["retrieval"].is_empty()


def test_pages_show_what_the_tables_hold_and_nothing_of_a_version_before_there_were_any(tmp_path):
    assert list(decile_tables(tmp_path)) == []
    documents = [Document("A", "shard-00000", row, f"d{row}", row, {"g": -float(row)}, float(row)) for row in range(20)]
    joint, paths = write_joint(tmp_path, documents, ["g"]), write_documents(tmp_path, documents, LATE_HALF)
    labels = pl.DataFrame([(f"d{row}", "good") for row in range(15, 20)], LABELS_SCHEMA, orient="row")
    tables(tmp_path, joint, paths, Labels(labels, ("good",)), 0.25)
    shown = dict(decile_tables(tmp_path))
    lengths = shown["mean tokens by decile of utility, 10 the most useful (Figure 5)"]
    assert lengths.row(0) == (JOINT, *(2 * decile + 0.5 for decile in range(10)))
    assert lengths.row(1) == ("g", *(2 * decile + 0.5 for decile in reversed(range(10))))
    sources = shown["share of each source in the deciles of joint utility, 10 the most useful"]
    assert sources.row(0) == ("early", *["100.0 %"] * 5, *["0.0 %"] * 5)
    found = {row["ranking"]: row for row in shown["are planted documents found, at the top share?"].to_dicts()}
    assert [(found[name]["auc"], found[name]["precision"]) for name in (JOINT, "g")] == [(1.0, 1.0), (0.0, 0.0)]
    assert not any("rounded score" in title for title in shown), "no document has one"


def test_equal_utilities_have_no_deciles_to_show(tmp_path):
    documents = [Document("A", "shard-00000", row, f"d{row}", row, {"g": 1.0}, 1.0) for row in range(20)]
    joint, paths = write_joint(tmp_path, documents, ["g"]), write_documents(tmp_path, documents, LATE_HALF)
    labels = pl.DataFrame([(f"d{row}", "good") for row in range(15, 20)], LABELS_SCHEMA, orient="row")
    tables(tmp_path, joint, paths, Labels(labels, ("good",)), 0.25)
    assert list(dict(decile_tables(tmp_path))) == ["are planted documents found, at the top share?"]
    assert show_deciles(tmp_path) == {"deciles of utility": "none: every document has the same utility"}


def test_shards_of_other_documents_are_refused(tmp_path):
    documents = [Document("A", "shard-00000", row, f"d{row}", 3, {"g": float(row)}, float(row)) for row in range(3)]
    joint, dumps = write_joint(tmp_path, documents, ["g"]), dict.fromkeys(f"d{row}" for row in range(3))
    paths = write_documents(tmp_path, [documents[0], documents[2], documents[1]], dumps)
    with pytest.raises(AutomixerError, match="2 rows have different doc_ids; materialise joint_influence again"):
        tables(tmp_path, joint, paths, NO_LABELS, 0.5)


@pytest.mark.parametrize(
    ("table", "planted", "message"),
    [
        ({"id": ["a"], "kind": ["x"]}, [], "has no column 'doc_id'; it has id, kind"),
        ({"doc_id": ["a", "a"], "kind": ["x", "y"]}, [], "gives 'a' two labels: x and y"),
        ({"doc_id": ["a"], "kind": ["x"]}, ["z"], "has no document labelled 'z'; correct `corpus.labels.planted`"),
    ],
)
def test_labels_that_say_nothing_clear_are_refused(tmp_path, table, planted, message):
    pl.DataFrame(table).write_parquet(tmp_path / "labels.parquet")
    with pytest.raises(AutomixerError, match=message):
        read_labels(tmp_path / "labels.parquet", column="kind", id_column="doc_id", planted=planted)


def test_labels_may_be_numbers_and_repeat(tmp_path):
    pl.DataFrame({"n": [7, 7, 8], "good": [True, True, None]}).write_parquet(tmp_path / "labels.parquet")
    found = read_labels(tmp_path / "labels.parquet", column="good", id_column="n", planted=["true"])
    assert found.table.rows() == [("7", "true")]
