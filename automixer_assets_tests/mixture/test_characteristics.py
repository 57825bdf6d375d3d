"""Why: each table of a tiny grouped corpus against plain Python, and the log-odds against the paper's formulas."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automixer_assets.corpus.inventory import DOCUMENT_SCHEMA
from automixer_assets.corpus.shards import open_tokenized, write_header
from automixer_assets.mixture import characteristics
from automixer_assets.mixture.characteristics import GroupedCorpus, write_characteristics
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.sql import run_sql

WORDS = ["end", "river", "stone", "lamp", "forest", "Bread!", "copper", "music", "rain"]
GROUPS = ("wet", "dry")


@dataclass(frozen=True)
class Document:
    """A document of the tiny corpus; `words` are token ids, the last of them the end-of-document id."""

    snapshot: str
    shard: str
    row: int
    doc_id: str
    words: tuple[int, ...]
    url: str | None
    dump: str | None
    language: str | None
    score: float | None
    leaked: bool

    @property
    def domain(self) -> str | None:
        host = urlsplit(self.url or "").hostname
        return None if host is None else host.removeprefix("www.")

    @property
    def source(self) -> str:
        return self.dump or self.snapshot

    @property
    def terms(self) -> set[str]:
        return {WORDS[word].lower().strip("!") for word in self.words[:-1]}

    def utility(self, group: str) -> float:
        return float(sum(word in ((1, 8) if group == "wet" else (2, 6)) for word in self.words))


def make_documents() -> list[Document]:
    rng = np.random.default_rng(5)
    urls = ["https://www.A.org/x", "http://a.org:80/y?z", "https://b.net", None, "https://user@c.com/p"]
    documents = []
    for number in range(40):
        words = (*rng.integers(1, len(WORDS), rng.integers(1, 9)).tolist(), 0)
        documents.append(
            Document(
                snapshot="AB"[number // 20],
                shard=f"shard-{number // 10 % 2:05d}",
                row=number % 10,
                doc_id=f"d{number:02d}",
                words=words,
                url=urls[number % 5],
                dump=None if number < 20 else f"dump-{number % 2}",
                language="en",
                score=None if number % 7 == 0 else number / 10,
                leaked=number % 6 == 1,
            )
        )
    return documents


DOCUMENTS = make_documents()


def members_of(group: str) -> list[Document]:
    return [each for each in DOCUMENTS if each.utility(group) >= 1]


def decode(ids: list[list[int]]) -> list[str]:
    return [" ".join(WORDS[word] for word in each) for each in ids]


def write_shard(folder: Path, shard: str, rows: Sequence[Document]) -> None:
    lengths = np.array([len(each.words) for each in rows], dtype=np.int64)
    given = {
        "doc_id": [each.doc_id for each in rows],
        "n_characters": [10 * len(each.words) for each in rows],
        **{name: [getattr(each, name) for each in rows] for name in ("url", "dump", "language", "score")},
    }
    columns = {field.name: pa.array(given.get(field.name, [None] * len(rows)), field.type) for field in DOCUMENT_SCHEMA}
    columns |= {"n_tokens": pa.array(lengths), "offset": pa.array(np.cumsum(lengths) - lengths)}
    pq.write_table(pa.table(columns), folder / f"{shard}.parquet")
    np.array([word for each in rows for word in each.words], dtype="<u2").tofile(folder / f"{shard}.bin")


def write_selection(folder: Path, rows: Sequence[Document], group: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "row": pa.array([each.row for each in rows], pa.int64()),
        "doc_id": pa.array([each.doc_id for each in rows], pa.string()),
        "n_tokens": pa.array([len(each.words) for each in rows], pa.int64()),
        "utility": pa.array([each.utility(group) for each in rows], pa.float64()),
    }
    pq.write_table(pa.table(table), folder / f"{rows[0].shard if rows else 'none'}.parquet")


def grouped_corpus(root: Path) -> GroupedCorpus:
    """The corpus on disk as the assets write it."""
    snapshots = {}
    for snapshot in "AB":
        folder, leakage = root / snapshot, root / "leakage" / snapshot
        folder.mkdir()
        leakage.mkdir(parents=True)
        for shard in ("shard-00000", "shard-00001"):
            rows = [each for each in DOCUMENTS if (each.snapshot, each.shard) == (snapshot, shard)]
            write_shard(folder, shard, rows)
            pl.DataFrame({"n_ngrams": [2 * each.leaked for each in rows]}).write_parquet(leakage / f"{shard}.parquet")
            for group in GROUPS:
                chosen = [each for each in rows if each.utility(group) >= 1]
                write_selection(root / "grouped" / "groups" / group / snapshot, chosen, group)
        write_header(
            folder,
            snapshot=snapshot,
            dtype="<u2",
            tokenizer_digest="t",
            end_of_document=0,
            vocab_size=len(WORDS),
            shards=["shard-00000", "shard-00001"],
        )
        snapshots[snapshot] = open_tokenized(folder)
    summary = {
        "group": GROUPS,
        "threshold": 1.0,
        "n_documents": 1,
        "n_tokens": 1,
        "n_candidates": 1,
        "candidate_tokens": 1,
    }
    pl.DataFrame(summary).write_parquet(root / "grouped" / "groups.parquet")
    return GroupedCorpus(list_selections(root / "grouped"), snapshots, {s: root / "leakage" / s for s in "AB"})


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    root = tmp_path_factory.mktemp("why")
    (root / "out").mkdir()
    write_characteristics(grouped_corpus(root), decode, root / "out")
    return {path.stem: pl.read_parquet(path) for path in (root / "out").iterdir()}


def monroe_z(inside: int, total: int, corpus: int, corpus_total: int, prior: float) -> float:
    """Equations 15, 20 and 22 of Monroe et al. (2008): the group against the rest of the corpus."""
    a, a0 = prior * corpus / corpus_total, prior
    outside, outside_total = corpus - inside, corpus_total - total

    def log_odds(y: float, n: float) -> float:
        return math.log((y + a) / (n + a0 - y - a))

    delta = log_odds(inside, total) - log_odds(outside, outside_total)
    return delta / math.sqrt(1 / (inside + a) + 1 / (outside + a))


VALUES: dict[str, Callable[[Document], set[str | None]]] = {
    "term": lambda each: set(each.terms),
    "domain": lambda each: {each.domain},
    "source": lambda each: {each.source},
    "language": lambda each: {each.language},
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("group", GROUPS)
def test_values_are_counted_and_ranked_by_the_log_odds(tables: dict[str, pl.DataFrame], group: str, kind: str) -> None:
    def count(documents: Sequence[Document]) -> Counter[str]:
        return Counter(value for each in documents for value in VALUES[kind](each) if value is not None)

    inside, corpus = count(members_of(group)), count(DOCUMENTS)
    z = {
        value: 0.0
        if corpus[value] == corpus.total()
        else monroe_z(inside[value], inside.total(), corpus[value], corpus.total(), characteristics.PRIOR_DOCUMENTS)
        for value in inside
    }
    found = tables["characteristics"].filter(group=group, kind=kind)
    assert found["rank"].to_list() == list(range(1, len(inside) + 1))
    assert dict(found.select("value", "z").iter_rows()) == pytest.approx(z, rel=1e-9, abs=1e-12)
    assert found["z"].is_sorted(descending=True)
    for row in found.iter_rows(named=True):
        value = row["value"]
        assert (row["n_in_group"], row["n_in_corpus"]) == (inside[value], corpus[value])
        assert row["share_in_group"] == pytest.approx(inside[value] / inside.total())
        assert row["share_in_corpus"] == pytest.approx(corpus[value] / corpus.total())


def test_what_a_group_is_about_comes_first(tables: dict[str, pl.DataFrame]) -> None:
    top = tables["characteristics"].filter(kind="term", rank=1)
    assert dict(top.select("group", "value").iter_rows())["wet"] in ("river", "rain")
    assert dict(top.select("group", "value").iter_rows())["dry"] in ("stone", "copper")


def test_a_group_that_is_the_whole_corpus_has_nothing_characteristic(tmp_path: Path) -> None:
    counts = {"group": "all", "kind": "term", "value": ["a", "b"], "n_in_group": [3, 9], "n_in_corpus": [3, 9]}
    frame = pl.DataFrame(counts | {"group_total": [12, 12], "corpus_total": [12, 12]})
    frame.write_parquet(tmp_path / "counts.parquet")
    found = run_sql("characteristic_values", {"files": [str(tmp_path / "counts.parquet")], "prior": 500, "top": 10})
    assert found["z"].to_pylist() == pytest.approx([0, 0], abs=1e-12)


def test_length_and_quality_stand_beside_the_corpus(tables: dict[str, pl.DataFrame]) -> None:
    numbers: dict[str, Callable[[Document], float | None]] = {
        "n_tokens": lambda each: len(each.words),
        "n_characters": lambda each: 10 * len(each.words),
        "score": lambda each: each.score,
    }
    found = {(row["group"], row["column_name"]): row for row in tables["quality"].iter_rows(named=True)}
    assert set(found) == {(group, name) for group in GROUPS for name in numbers}, "columns without a value are left out"
    for (group, name), row in found.items():
        values, whole = (
            [value for each in documents if (value := numbers[name](each)) is not None]
            for documents in (members_of(group), DOCUMENTS)
        )
        mean, sd = statistics.fmean(whole), statistics.pstdev(whole)
        assert row["n_documents"] == len(values)
        assert (row["mean"], row["sd"]) == pytest.approx((statistics.fmean(values), statistics.pstdev(values)))
        assert (row["corpus_mean"], row["corpus_sd"]) == pytest.approx((mean, sd))
        assert row["difference_in_sd"] == pytest.approx((statistics.fmean(values) - mean) / sd)


def test_leaked_documents_are_counted_per_group_and_source(tables: dict[str, pl.DataFrame]) -> None:
    expected = {
        (group, source): (
            sum(each.source == source for each in documents),
            sum(each.source == source and each.leaked for each in documents),
            sum(len(each.words) for each in documents if each.source == source and each.leaked),
        )
        for group, documents in {"wet": members_of("wet"), "dry": members_of("dry"), None: DOCUMENTS}.items()
        for source in {each.source for each in documents}
    }
    assert {(row[0], row[1]): row[2:] for row in tables["leaked"].iter_rows()} == expected


@pytest.mark.parametrize("group", GROUPS)
def test_examples_are_the_most_useful_and_some_by_hash(tables: dict[str, pl.DataFrame], group: str) -> None:
    found = tables["examples"].filter(group=group)
    members = members_of(group)
    best = sorted(members, key=lambda each: (-each.utility(group), each.doc_id))[: characteristics.N_BEST]
    hashed = sorted(members, key=lambda each: hashlib.md5(each.doc_id.encode()).hexdigest())[: characteristics.N_ANY]
    assert found.select("chosen_by", "doc_id").rows() == [
        *(("utility", each.doc_id) for each in best),
        *(("hash", each.doc_id) for each in hashed),
    ]
    assert found["text"].to_list() == decode([list(each.words[:-1]) for each in (*best, *hashed)])


def test_terms_are_those_of_the_sample_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(characteristics, "SAMPLED_DOCUMENTS", 7)
    monkeypatch.setattr(characteristics, "DOCUMENTS_PER_BATCH", 3)
    sample = sorted(DOCUMENTS, key=lambda each: hashlib.md5(each.doc_id.encode()).hexdigest())[:7]
    with characteristics.open_database() as database:
        found = characteristics.term_counts(grouped_corpus(tmp_path), database, decode)
    expected = {
        (group, term): (
            sum(term in each.terms for each in sample if each.utility(group) >= 1),
            sum(term in each.terms for each in sample),
        )
        for group in GROUPS
        for term in {term for each in sample if each.utility(group) >= 1 for term in each.terms}
    }
    counted = found.select("group", "value", "n_in_group", "n_in_corpus").iter_rows()
    assert {(group, term): counts for group, term, *rest in counted if (counts := tuple(rest))} == expected
    assert set(found["corpus_total"]) == {sum(len(each.terms) for each in sample)}
