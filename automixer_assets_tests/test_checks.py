"""Every blocking check passes on a good artefact and fails on one that was tampered with, saying by how much."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from automixer_assets import checks
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import CheckOutcome
from automixer_assets.mixture.ledger import write_ledger
from automixer_assets.mixture.manifest import write_manifest
from automixer_assets.settings import Limits
from automixer_assets_tests.corpus.builders import inventory_of, texts, write_source
from automixer_assets_tests.mixture.tiny import tiny_mixture

Edit = Callable[[pl.DataFrame], pl.DataFrame]
TABLE_OF = {
    "unique_documents": "inventory/documents/shard-00001.parquet",
    "tokens": "tokens/shard-00000.parquet",
    "disjoint": "items/item_sets.parquet",
    "loss": "run/training.parquet",
    "imported": "imported/checkpoints.parquet",
    "results": "benchmark/benchmark.parquet",
    "finite": "scores/shard-00000.parquet",
    "alphas": "selected/selected.parquet",
    "joint": "joint/shard-00000.parquet",
    "kept": "grouped/groups.parquet",
    "targets": "targets/benchmark.parquet",
    "comparison": "comparison/comparison.parquet",
    "schema": "manifest/manifest.json",
    "weights": "manifest/manifest.json",
    "budget": "manifest/manifest.json",
    "document_exposure": "manifest/manifest.json",
    "group_epochs": "manifest/manifest.json",
    "shortfall": "manifest/manifest.json",
    "group_sizes": "manifest/manifest.json",
}
"""By check (without `check_`): what its artefact consists of, and the file that is tampered with below."""
STEPS, TASKS = (10, 20), ("piqa", "boolq")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per kind of artefact, as its asset writes it (method outputs are tables of the documented columns)."""
    root = tmp_path_factory.mktemp("good")
    write_source(root / "S" / "a.parquet", texts(9))
    inventory_of(root / "S", root / "inventory", documents_per_shard=4)
    tiny = tiny_mixture(root / "tiny")
    shutil.copytree(tiny.snapshots["A"].folder, root / "tokens")
    shutil.copytree(root / "tiny" / "grouped_shards" / "abc", root / "grouped")
    (root / "grouped" / "top_share.json").write_text("0.5\n")
    shutil.copytree(root / "tiny" / "joint" / "A", root / "joint")
    (root / "manifest").mkdir()
    write_manifest(tiny.manifest, root / "manifest" / "manifest.json")
    write_ledger(tiny.manifest, root / "grouped", tiny.snapshots, root / "manifest")
    (root / "manifest" / "limits.json").write_text(Limits().model_dump_json())
    for name, table in tables().items():
        (root / name).parent.mkdir(exist_ok=True)
        table.write_parquet(root / name)
    return root


def tables() -> dict[str, pl.DataFrame]:
    results = [{"step": step, "task": task, "acc": 0.5, "gold_nll": 1.5} for step in STEPS for task in TASKS]
    benchmark = pl.DataFrame(results).with_columns(("p-" + pl.col("step").cast(pl.String)).alias("checkpoint"))
    sets = {"gradient": "g", "selection": "s", "final": "f"}
    items = [
        {"task": task, "item_set": item_set, "item_hash": f"{letter}{i}", "doc_index": i}
        for task in TASKS
        for item_set, letter in sets.items()
        for i in range(3)
    ]
    scores = {
        "doc_id": ["a", "b"],
        "n_tokens": [3, 4],
        "loss": [1.0, 2.0],
        "influence_datainf_sequence_piqa": [-1.0, 0.5],
    }
    return {
        "items/item_sets.parquet": pl.DataFrame(items),
        "run/training.parquet": pl.DataFrame({"loss": [5.0 - i / 20 for i in range(40)]}),
        "imported/checkpoints.parquet": pl.DataFrame(
            {
                "step": [0, 10, 20],
                "name": ["step0", "step10", "step20"],
                "status": ["usable", "usable", "quarantined"],
                "reason": [None, None, "step20/config.json is missing"],
            }
        ),
        "benchmark/benchmark.parquet": benchmark,
        "scores/shard-00000.parquet": pl.DataFrame(scores),
        "selected/selected.parquet": pl.DataFrame({"checkpoint": ["p-10", "p-20"], "alpha": [1 / 3, 2 / 3]}),
        "targets/benchmark.parquet": benchmark.rename({"step": "seed"}),
        "comparison/comparison.parquet": pl.DataFrame({"difference": [0.1, 0.0], "n_seeds": [2, 3]}),
    }


def outcome_of(check: str, root: Path) -> CheckOutcome:
    path = root / TABLE_OF[check].split("/")[0]
    return getattr(checks, f"check_{check}")(Artifact(path.name, "d", path, "c", 0.0, {}))


def first(column: str, value: object) -> Edit:
    """The table with another value in the first row."""
    return lambda table: table.with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )


def plus(column: str, amount: float) -> Edit:
    return lambda table: first(column, table[column][0] + amount)(table)


def null_in_the_middle(table: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([table.head(20), pl.DataFrame({"loss": [None]}, schema=table.schema), table.tail(19)])


def one_dropped(table: pl.DataFrame) -> pl.DataFrame:
    return table.head(3)


def one_for_another(table: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([table.head(3), table.head(1)])


def all_on_one(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.Series("alpha", [0.0, 1.0]))


SCORE = "influence_datainf_sequence_piqa"
NAN, INF = float("nan"), float("inf")
TABLE_CASES: dict[str, tuple[str, Edit, str]] = {
    "duplicate id": ("unique_documents", first("doc_id", "d000"), "9 rows, 8 distinct"),
    "offset off by one": ("tokens", plus("offset", 1), "shard-00000: offsets and lengths do not cover"),
    "length off by one": ("tokens", plus("n_tokens", 1), "do not cover shard-00000.bin exactly"),
    "shared item": ("disjoint", first("item_hash", "f0"), "1 in more than one set"),
    "loss NaN": ("loss", first("loss", NAN), "loss went from nan"),
    "loss null": ("loss", null_in_the_middle, "loss went from"),
    "loss rose": ("loss", pl.DataFrame.reverse, "loss went from 3.050 to 4.9"),
    "nothing but step 0": (
        "imported",
        lambda table: table.filter(pl.col("step") != 10),
        "1 of 2 checkpoints are usable; step20: step20/config.json is missing",
    ),
    "result missing": ("results", one_dropped, "3 of 4 results in 3 rows"),
    "result twice, another missing": ("results", one_for_another, "3 of 4 results in 4 rows"),
    "accuracy NaN": ("results", first("acc", NAN), "all finite: False"),
    "NLL null": ("results", first("gold_nll", None), "all finite: False"),
    "score NaN": ("finite", first(SCORE, NAN), "1 documents with a score that is not finite"),
    "score infinite": ("finite", first(SCORE, INF), "1 documents"),
    "loss of a document null": ("finite", first("loss", None), "1 documents"),
    "alphas sum to .9": ("alphas", plus("alpha", -0.1), "sum of alphas 0.9000"),
    "alpha zero": ("alphas", all_on_one, "sum of alphas 1.0"),
    "alpha NaN": ("alphas", first("alpha", NAN), "sum of alphas nan"),
    "joint utility NaN": ("joint", first("joint_utility", NAN), "all finite: False"),
    "joint utility null": ("joint", first("joint_utility", None), "all finite: False"),
    "document twice": ("joint", first("doc_id", "d01"), "40 rows, 39 distinct"),
    "one kept too few": ("kept", plus("n_documents", -1), "demo-step-000480 keeps 29 of 60"),
    "one kept too many": ("kept", plus("n_documents", 1), "demo-step-000480 keeps 31 of 60"),
    "a seed's result missing": ("targets", one_dropped, "3 of 4 results in 3 rows"),
    "no difference": ("comparison", first("difference", None), "1 of 2 results have a difference; 2 to 3 seeds"),
    "difference NaN": ("comparison", first("difference", NAN), "1 of 2 results have a difference"),
}
MANIFEST_CASES: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "schema violated": ("schema", lambda m: m.pop("pins"), "'pins' is a required property"),
    "unknown key": ("schema", lambda m: m.update(extra=1), "'extra' was unexpected"),
    "weights sum to more": ("weights", lambda m: m["groups"][0].update(weight=0.9), "sum of weights 1."),
    "weight missing": ("weights", lambda m: m["groups"][0].pop("weight"), "sum of weights nan"),
    "no groups": ("weights", lambda m: m.pop("groups"), "sum of weights 0.0"),
    "budget off by one": ("budget", lambda m: m.update(shortfall=1), "20,000 tokens allocated + 1 shortfall = 20,000"),
    "budget of a broken manifest": ("budget", lambda m: m.pop("groups"), "groups: Field required"),
}


LIMIT_CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a document read too often": (
        "document_exposure",
        {"max_document_exposure": 10},
        r"document 'd\d\d' of [AB] is read .* times, .*above `limits.max_document_exposure: 10`; set the mixture's",
    ),
    "a group read too often": (
        "group_epochs",
        {"max_group_epochs": 5},
        r"group demo-step-\d+ is read .* times, .*above `limits.max_group_epochs: 5`; .* lower the budget",
    ),
    "few documents": ("group_sizes", {"min_group_documents": 31}, r"has 30 documents to read, below `limits.min"),
    "few tokens": ("group_sizes", {"min_group_tokens": 10**5}, r"tokens to read, below `limits.min_group_tokens: 100,"),
}


@pytest.mark.parametrize("check", TABLE_OF)
def test_a_good_artefact_passes(good: Path, check: str) -> None:
    outcome = outcome_of(check, good)
    assert outcome.passed, outcome.description
    assert outcome.description


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "copy")


def assert_fails(check: str, root: Path, said: str) -> None:
    outcome = outcome_of(check, root)
    assert not outcome.passed
    assert said in outcome.description


@pytest.mark.parametrize(("check", "edit", "said"), TABLE_CASES.values(), ids=TABLE_CASES)
def test_a_tampered_table_fails_and_says_how(copy: Path, check: str, edit: Edit, said: str) -> None:
    path = copy / TABLE_OF[check]
    edit(pl.read_parquet(path)).write_parquet(path)
    assert_fails(check, copy, said)


@pytest.mark.parametrize(("check", "edit", "said"), MANIFEST_CASES.values(), ids=MANIFEST_CASES)
def test_a_tampered_manifest_fails_and_says_how(
    copy: Path, check: str, edit: Callable[[dict[str, Any]], Any], said: str
) -> None:
    path = copy / TABLE_OF[check]
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    assert_fails(check, copy, said)


@pytest.mark.parametrize(("check", "limits", "said"), LIMIT_CASES.values(), ids=LIMIT_CASES)
def test_a_mixture_beyond_its_limits_fails_and_says_what_to_do(
    copy: Path, check: str, limits: dict[str, Any], said: str
) -> None:
    (copy / "manifest" / "limits.json").write_text(Limits.model_validate(limits).model_dump_json())
    outcome = outcome_of(check, copy)
    assert not outcome.passed
    assert re.search(said, outcome.description), outcome.description


@pytest.mark.parametrize(("check", "limits"), [case[:2] for case in LIMIT_CASES.values()], ids=LIMIT_CASES)
def test_a_mixture_within_its_limits_passes(copy: Path, check: str, limits: dict[str, Any]) -> None:
    wide = {name: max(1, limit // 1000) if name.startswith("min") else limit * 1000 for name, limit in limits.items()}
    (copy / "manifest" / "limits.json").write_text(Limits.model_validate(wide).model_dump_json())
    outcome = outcome_of(check, copy)
    assert outcome.passed, outcome.description
    assert "the limit is" in outcome.description


def test_a_token_file_that_ends_within_an_id_fails(copy: Path) -> None:
    path = copy / "tokens" / "shard-00000.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert_fails("tokens", copy, "do not cover shard-00000.bin exactly")


def test_a_shortfall_beyond_its_limit_names_the_groups_and_the_budget_that_fits(good: Path, tmp_path: Path) -> None:
    capped = tiny_mixture(tmp_path, max_epochs=2.0, exhaustion_policy="stop_and_raise_others").manifest
    (tmp_path / "manifest").mkdir()
    write_manifest(capped, tmp_path / "manifest" / "manifest.json")
    for limit, passed in ((0.0, False), (0.95, True)):
        (tmp_path / "manifest" / "limits.json").write_text(Limits(max_shortfall=limit).model_dump_json())
        outcome = outcome_of("shortfall", tmp_path)
        assert outcome.passed == passed
        assert f"the caps leave {capped.shortfall:,} of 20,000 tokens" in outcome.description
    (tmp_path / "manifest" / "limits.json").write_text(Limits(max_shortfall=0).model_dump_json())
    said = outcome_of("shortfall", tmp_path).description
    assert "demo-step-000480 stops at its cap of 2 epochs" in said
    assert f"lower `token_budget` to {20_000 - capped.shortfall:,}" in said


def test_every_blocking_check_is_tried_here() -> None:
    every = {name.removeprefix("check_") for name in vars(checks) if name.startswith("check_")}
    tried = {case[0] for case in (*TABLE_CASES.values(), *MANIFEST_CASES.values(), *LIMIT_CASES.values())}
    tried.add("shortfall")
    every -= {"contributions", "all_asked"}  # tried in test_uncertainty_assets; no blocking one, in test_runner
    assert tried == every == set(TABLE_OF)
