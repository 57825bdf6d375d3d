from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from automixer_assets.errors import AutomixerError
from automixer_assets.export import export_mixture, texts
from automixer_assets_tests.export.cases import STANDARD, Wanted, make_case

PARQUET = ("hf", "torchtitan", "levanter")


@pytest.fixture(scope="module", params=PARQUET)
def out(request, case, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "out"
    export_mixture(**case.options(), format=request.param, out=folder, location=Path("/data"))
    return folder


@pytest.mark.parametrize("group", STANDARD, ids=lambda group: group.name)
def test_every_text_is_there_once_with_where_it_comes_from(case, out, group):
    table = pl.read_parquet(out / group.name / "*.parquet")
    assert dict(table.select("id", "text").rows()) == case.texts(group.name)
    assert table.height == group.n_documents
    assert set(table["n_tokens"]) == {group.length}
    assert table["url"].to_list() == [f"https://example.org/{doc_id}" for doc_id in table["id"]]
    assert table["licence"].null_count() == table.height


def test_small_batches_give_the_same_documents(case, tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "BATCH_ROWS", 5)
    export_mixture(**case.options(), format="hf", out=tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "short" / "*.parquet")
    assert dict(table.select("id", "text").rows()) == case.texts("short")


def test_a_source_that_changed_is_refused(tmp_path):
    case = make_case(tmp_path / "case")
    path = sorted(case.corpus.rglob("*.parquet"))[1]
    table = pq.read_table(path)
    changed = [None if i == 30 else f"{text}." for i, text in enumerate(table["text"].to_pylist())]
    pq.write_table(table.set_column(1, "text", pa.array(changed)), path)
    with pytest.raises(AutomixerError, match=r"shard-00001\.parquet changed since the inventory"):
        export_mixture(**case.options(), format="hf", out=tmp_path / "out")


def test_a_source_with_fewer_rows_is_refused(tmp_path):
    case = make_case(tmp_path / "case")
    path = sorted(case.corpus.rglob("*.parquet"))[0]
    pq.write_table(pq.read_table(path).slice(0, 20), path)
    with pytest.raises(AutomixerError, match="changed since the inventory"):
        export_mixture(**case.options(), format="hf", out=tmp_path / "out")


def test_a_source_that_is_gone_or_no_parquet_is_named(tmp_path):
    case = make_case(tmp_path / "case")
    path = sorted(case.corpus.rglob("*.parquet"))[0]
    path.write_text("no Parquet")
    with pytest.raises(AutomixerError, match=r"shard-00000\.parquet is not a readable Parquet file"):
        export_mixture(**case.options(), format="hf", out=tmp_path / "out")
    path.unlink()
    with pytest.raises(AutomixerError, match=r"shard-00000\.parquet is gone since the inventory"):
        export_mixture(**case.options(), format="hf", out=tmp_path / "out")


def test_probabilities_are_of_documents(case, tmp_path):
    export_mixture(**case.options(), format="hf", out=tmp_path / "out")
    groups = json.loads((tmp_path / "out" / "interleave.json").read_text())["groups"]
    # shares .2, .5, .3 over 10, 100, 50 tokens a document
    parts = {"short": 0.02, "long": 0.005, "tiny": 0.006}
    expected = {name: part / sum(parts.values()) for name, part in parts.items()}
    assert {group["name"]: group["probability"] for group in groups} == pytest.approx(expected)
    arguments = yaml.safe_load((tmp_path / "out" / "llamafactory.yaml").read_text())
    assert arguments["dataset"] == "short,long,tiny"
    assert [float(p) for p in arguments["interleave_probs"].split(",")] == pytest.approx(list(expected.values()))
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert all((tmp_path / "out" / entry["file_name"]).is_dir() for entry in info.values())
    assert set(info) == set(expected)


def test_torchtitan_gets_folders_and_shares_of_tokens(case, tmp_path):
    export_mixture(**case.options(), format="torchtitan", out=tmp_path / "out")
    sources = json.loads((tmp_path / "out" / "sources.json").read_text())
    assert [source["weight"] for source in sources] == pytest.approx([0.2, 0.5, 0.3])
    assert all(list(Path(source["dataset_path"]).glob("*.parquet")) for source in sources)


def levanter_tokens(document: dict, steps: int) -> dict[str, int]:
    """Sequences per group as Levanter deals them: whole numbers per block, the rest to the largest group."""
    block, batch = document["data"]["mixture_block_size"], document["trainer"]["train_batch_size"]
    weights = document["data"]["train_weights"]
    stages = weights if isinstance(weights, list) else [[0, weights]]
    dealt = dict.fromkeys(document["data"]["configs"], 0)
    for (start, shares), (end, _) in zip(stages, [*stages[1:], [steps, {}]], strict=True):
        assert start * batch % block == 0, "Levanter refuses a stage that starts within a block"
        counts = {name: int(shares.get(name, 0) * block) for name in dealt}
        counts[max(counts, key=lambda name: counts[name])] += block - sum(counts.values())
        for name in dealt:
            dealt[name] += counts[name] * ((end - start) * batch) // block
    return dealt


def test_levanters_schedule_ends_with_what_the_mixture_allots(tmp_path):
    groups = [Wanted("a", 0.3, 400, 100), Wanted("b", 0.6, 400, 50), Wanted("c", 0.1, 400, 200)]
    case = make_case(
        tmp_path / "case", groups, exhaustion_policy="stop_and_raise_others", max_epochs=1.0, token_budget=10**6
    )
    out = tmp_path / "out"
    report = export_mixture(**case.options(), format="levanter", out=out, sequence_length=2, batch_size=8)
    document = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    stages = document["data"]["train_weights"]
    assert [stage[1]["b"] > 0 for stage in stages] == [True, False, False]
    dealt = levanter_tokens(document, document["trainer"]["num_train_steps"])
    for group in report.document["groups"]:
        assert dealt[group["label"]] * 2 == pytest.approx(group["run_tokens"], abs=2 * len(stages) * 2048)


def test_levanter_gets_the_shares_of_the_run_where_phases_are_shorter_than_a_block(capped, tmp_path):
    report = export_mixture(**capped.options(), format="levanter", out=tmp_path / "out")
    weights = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())["data"]["train_weights"]
    assert weights == {group["label"]: group["weight"] for group in report.document["groups"]}
    assert "none has passed its cap" in report.document["exhaustion"]


def test_levanters_blocks_hold_enough_of_the_smallest_group(tmp_path):
    case = make_case(tmp_path / "case", [Wanted("large", 0.99, 50, 10), Wanted("small", 0.01, 50, 10)])
    export_mixture(**case.options(), format="levanter", out=tmp_path / "out")
    document = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert document["data"]["mixture_block_size"] == 16384
    steps = document["data"]["mixture_block_size"] // document["trainer"]["train_batch_size"]
    dealt = levanter_tokens(document, steps)
    assert dealt["small"] / sum(dealt.values()) == pytest.approx(0.01, rel=0.01)
