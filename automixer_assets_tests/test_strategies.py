"""Every strategy end to end: settings in, groups and a manifest out, on the same assets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.partitions import multi_key
from automixer_assets.scorers import strategy_names
from automixer_assets.scorers._lexical import lexical_column
from automixer_assets.settings_file import parse_settings
from automixer_assets_tests.world import FIRST_SNAPSHOTS, World, tiny_settings

SOURCES = {"front": ["*/segments/0/*"], "back": ["*/segments/1/*"]}
RECIPES = {
    "perplexity": {"scorer": "perplexity", "proxy": "demo"},
    "random": {"scorer": "random"},
    "ngram": {"scorer": "ngram"},
    "bm25": {"scorer": "bm25"},
    "blend": {"scorer": "influence_lexical", "proxy": "demo", "options": {"share": 0.25}},
    "oracle": {"scorer": "column", "options": {"file": "truth.parquet", "column": "teaches"}},
    "strata": {"scorer": "stratified", "options": {"column": "file_path", "sources": SOURCES}},
    "last": {"proxy": "demo", "selection": "last"},
    "every": {"proxy": "demo", "selection": "all"},
}
CORPUS_STRATEGIES = ("random", "ngram", "bm25", "oracle")


@pytest.fixture(scope="module")
def compared(finished: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The finished world with a mixture per strategy."""
    world = finished.copy(tmp_path_factory.mktemp("strategies") / "world")
    truth = pl.concat(documents(world, snapshot) for snapshot in FIRST_SNAPSHOTS)
    truth.with_columns(teaches=pl.col("doc_id").hash(seed=1) % 3 == 0).write_parquet(world.state / "truth.parquet")
    overrides = {f"recipes.{name}": recipe for name, recipe in RECIPES.items()}
    # minus the loss is never positive, and no density of it either
    mixture = {"token_budget": 1000, "nonpositive_density": "softmax"}
    overrides |= {f"mixtures.{name}": {"recipe": name, **mixture} for name in RECIPES}
    world.run(overrides=overrides)
    yield world
    world.close()


def documents(world: World, snapshot: str) -> pl.DataFrame:
    return world.table("tokenized_corpus", snapshot, "shard-*.parquet").select("doc_id")


def joint(world: World, recipe: str, snapshot: str) -> pl.DataFrame:
    return world.table("joint_influence", multi_key(recipe=recipe, snapshot=snapshot), "shard-*.parquet")


def bm25(world: World, snapshot: str) -> np.ndarray:
    shards = sorted(world.path("lexical_scores", snapshot).glob("shard-*.parquet"))
    return np.concatenate([lexical_column(shard, "bm25") for shard in shards])


def kept(world: World, mixture: str) -> set[str]:
    selections = list_selections(world.path("grouped_shards", mixture))
    return {doc_id for each in selections for doc_id in pl.read_parquet(each.path)["doc_id"]}


def in_sources(world: World) -> dict[str, int]:
    """Group -> how many documents its source has."""
    paths = pl.concat(world.table("tokenized_corpus", snapshot, "shard-*.parquet") for snapshot in FIRST_SNAPSHOTS)
    counted = paths.group_by(pl.col("file_path").str.extract("segments/(.)/")).len()
    return {group: dict(counted.iter_rows())[part] for group, part in (("front", "0"), ("back", "1"))}


def test_every_strategy_has_a_case_here():
    assert {str(recipe.get("scorer", "influence")) for recipe in RECIPES.values()} | {"uniform"} == set(
        strategy_names()
    )


@pytest.mark.parametrize("name", RECIPES)
def test_a_strategy_is_a_mixture_in_settings(compared: World, name: str):
    manifest = load_manifest(compared.path("weight_manifest", name) / "manifest.json")
    groups = [group.name for group in manifest.groups]
    assert (groups == ["corpus"]) == (name in CORPUS_STRATEGIES)
    candidates = sum(documents(compared, snapshot).height for snapshot in FIRST_SNAPSHOTS)
    expected = {-(-candidates // 2)}
    if name == "strata":
        expected = {-(-n // 2) for n in in_sources(compared).values()}
    assert {group.n_documents for group in manifest.groups} == expected


def test_perplexity_keeps_documents_of_low_loss(compared: World):
    for snapshot in FIRST_SNAPSHOTS:
        table = joint(compared, "perplexity", snapshot)
        for column in (name for name in table.columns if name.startswith("utility__")):
            key = multi_key(checkpoint=column.removeprefix("utility__"), snapshot=snapshot)
            loss = compared.table("demo/checkpoint_influence", key, "shard-*.parquet")["loss"]
            assert table[column].to_numpy() == pytest.approx(-loss.to_numpy(), rel=1e-6)


def test_bm25_ranks_by_the_mean_over_tasks(compared: World):
    for snapshot in FIRST_SNAPSHOTS:
        scores = compared.table("lexical_scores", snapshot, "shard-*.parquet")
        mean = np.mean([scores[name].to_numpy() for name in scores.columns if name.startswith("bm25_")], axis=0)
        assert joint(compared, "bm25", snapshot)["utility__corpus"].to_numpy() == pytest.approx(mean)


def test_importance_resampling_prefers_what_is_close_and_keeps_some_of_the_rest(compared: World):
    table = pl.concat(
        joint(compared, "ngram", snapshot).join(
            compared.table("lexical_scores", snapshot, "shard-*.parquet"), on="doc_id", validate="1:1"
        )
        for snapshot in FIRST_SNAPSHOTS
    )
    noise = (table["utility__corpus"] - table["ngram_all"]).to_numpy()
    assert noise.mean() == pytest.approx(0.5772, abs=5 * 1.2825 / np.sqrt(len(noise)))  # a standard Gumbel's mean
    chosen = table["doc_id"].is_in(list(kept(compared, "ngram")))
    weights = table["ngram_all"].to_numpy()
    assert weights[chosen.to_numpy()].mean() > weights[~chosen.to_numpy()].mean()
    by_weight = table.sort("ngram_all", descending=True)["doc_id"].head(int(chosen.sum()))
    assert set(by_weight) != kept(compared, "ngram")


def test_a_blend_lies_between_its_ranks(compared: World):
    reference = np.sort(lexical_column(compared.path("lexical_query") / "reference_scores.parquet", "bm25"))
    for snapshot in FIRST_SNAPSHOTS:
        table = joint(compared, "blend", snapshot)
        rank = np.searchsorted(reference, bm25(compared, snapshot), side="right") / len(reference)
        for column in (name for name in table.columns if name.startswith("utility__")):
            influence = (table[column].to_numpy() - 0.25 * rank) / 0.75
            assert influence.min() >= -1e-12
            assert influence.max() <= 1 + 1e-12
            assert len(np.unique(influence.round(9))) > 10


def test_known_truth_is_kept_first(compared: World):
    truth = pl.read_parquet(compared.state / "truth.parquet")
    assert set(truth.filter("teaches")["doc_id"]) <= kept(compared, "oracle")


def test_random_halves_of_two_seeds_differ(compared: World):
    overrides = {"recipes.other": {"scorer": "random", "options": {"seed": 1}}}
    compared.run("joint_influence", "other", overrides=overrides)
    first, second = (joint(compared, name, FIRST_SNAPSHOTS[0])["utility__corpus"] for name in ("random", "other"))
    assert first.is_between(0, 1, closed="none").all()
    assert abs(float(np.corrcoef(first, second)[0, 1])) < 0.3


def test_a_document_without_a_utility_is_named(compared: World):
    truth = pl.read_parquet(compared.state / "truth.parquet")
    truth.slice(1).write_parquet(compared.state / "short.parquet")
    overrides = {"recipes.short": RECIPES["oracle"] | {"options": {"file": "short.parquet", "column": "teaches"}}}
    with pytest.raises(AutomixerError, match=f"no teaches for 1 documents, the first of them '{truth['doc_id'][0]}'"):
        compared.run("joint_influence", "short", overrides=overrides)


def test_a_cheap_filter_leaves_out_what_no_group_may_then_rank(compared: World):
    overrides = {"mixtures.demo.filter": {"score": "bm25", "drop_share": 0.25}}
    compared.run("grouped_shards", "demo", overrides=overrides)
    reference = lexical_column(compared.path("lexical_query") / "reference_scores.parquet", "bm25")
    floor = np.sort(reference)[len(reference) // 4]
    scores = pl.concat(
        documents(compared, snapshot).with_columns(pl.Series("score", bm25(compared, snapshot)))
        for snapshot in FIRST_SNAPSHOTS
    )
    below = set(scores.filter(pl.col("score") < floor)["doc_id"])
    assert below
    assert not below & kept(compared, "demo")
    groups = compared.table("grouped_shards", "demo", "groups.parquet")
    assert set(groups["n_documents"]) == {-(-(len(scores) - len(below)) // 2)}
    counted = compared.table("grouped_shards", "demo", "exclusions.parquet").filter(pl.col("reason") == "filtered")
    assert counted["n_documents"].sum() == len(below)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"scorer": "oracl"}, "there is no scorer 'oracl'; there are bm25, column, influence"),
        ({"scorer": "random", "options": {"sed": 1}}, "sed"),
        ({"scorer": "perplexity"}, "scorer 'perplexity' needs a `proxy`"),
        ({"scorer": "column"}, "file"),
    ],
)
def test_settings_that_cannot_be_are_refused(recipe: dict[str, object], message: str):
    settings = tiny_settings()
    settings["recipes"]["wrong"] = recipe
    with pytest.raises(AutomixerError, match=message):
        parse_settings(settings, "settings.yaml")
