"""Groups that only some documents are candidates of, end to end, in a world where nothing was trained."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from automixer_assets.answers.explain import explain
from automixer_assets.answers.find import find_inputs
from automixer_assets.answers.findings import Verification
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.overlap import overlap
from automixer_assets.answers.tables import explanation_tables, overlap_tables
from automixer_assets.answers.verify import verify
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.manifest import load_manifest, manifest_digest
from automixer_assets.pages.mixture import repetition_note
from automixer_assets.progress import progress
from automixer_assets_tests.world import FIRST_SNAPSHOTS, World, create_world

SOURCES = {"front": ["https://site-0*"], "back": ["https://site-1*"]}
STRATA = {
    "recipes.strata": {"scorer": "stratified", "options": {"column": "url", "sources": SOURCES}},
    "mixtures.strata": {"recipe": "strata", "token_budget": 100_000, "top_share": 1},
}


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = create_world(tmp_path_factory.mktemp("stratified") / "world")
    world.run("+tokenized_corpus")
    make(world, "strata", STRATA)
    yield world
    world.close()


def make(world: World, name: str, overrides: dict[str, Any]) -> None:
    """A mixture whose scorer asks for no proxy, and its recipe of the same name; nothing else is made."""
    for asset in ("joint_influence", "grouped_shards", "weight_manifest"):
        world.run(asset, name, overrides=overrides)


def documents(world: World, shard: str | None = None) -> pl.DataFrame:
    """Of both snapshots, or of one shard of the first."""
    places = [(FIRST_SNAPSHOTS[0], shard)] if shard else [(snapshot, "shard-*") for snapshot in FIRST_SNAPSHOTS]
    tables = [world.table("tokenized_corpus", snapshot, f"{name}.parquet") for snapshot, name in places]
    return pl.concat(tables).with_columns(part=pl.col("url").str.extract("site-(.)"))


def members(world: World, group: str) -> set[str]:
    selections = list_selections(world.path("grouped_shards", "strata"))
    return {doc_id for each in selections if each.group == group for doc_id in pl.read_parquet(each.path)["doc_id"]}


def verified(world: World, name: str) -> Verification:
    with world.active():
        inputs = find_inputs(world.instance, world.lake, name)
    return verify(inputs, lambda label, total, unit: progress(label, total, unit, print))


@pytest.mark.parametrize(("rule", "power"), [("equation", 0.0), ("size:0", 0.0), ("size:0.5", 0.5), ("size:1", 1.0)])
def test_sources_share_the_tokens_equally_or_by_a_power_of_their_size(untrained: World, rule: str, power: float):
    make(untrained, "strata", {**STRATA, "mixtures.strata.weight_rule": rule})
    manifest = load_manifest(untrained.path("weight_manifest", "strata") / "manifest.json")
    found = documents(untrained)
    for group, part in (("front", "0"), ("back", "1")):
        assert members(untrained, group) == set(found.filter(pl.col("part") == part)["doc_id"])
    powers = [group.n_tokens**power for group in manifest.groups]
    assert powers[0] != powers[1] or power == 0
    assert [group.weight for group in manifest.groups] == pytest.approx([each / sum(powers) for each in powers])
    assert sum(group.allocated_tokens for group in manifest.groups) == 100_000
    assert verified(untrained, "strata").differences == []


def test_half_of_each_source_is_half_of_its_own_documents(untrained: World):
    make(untrained, "strata", {**STRATA, "mixtures.strata.top_share": 0.5})
    sizes = dict(documents(untrained).group_by("part").len().iter_rows())
    groups = untrained.table("grouped_shards", "strata", "groups.parquet")
    assert groups["n_candidates"].to_list() == [sizes["0"], sizes["1"]]
    assert groups["n_documents"].to_list() == [-(-sizes["0"] // 2), -(-sizes["1"] // 2)]
    assert verified(untrained, "strata").differences == []


def test_a_document_of_another_source_is_said_to_be_no_candidate(untrained: World):
    with untrained.active():
        inputs = find_inputs(untrained.instance, untrained.lake, "strata")
    (found,) = explain(inputs, documents(untrained).filter(pl.col("part") == "0")["doc_id"][0], lambda ids: "text")
    answers = {each.group: each for each in found.groups}
    assert (answers["front"].utility, answers["front"].margin) == (1.0, 0.0)
    assert (answers["back"].utility, answers["back"].percentile, answers["back"].kept) == (None, None, False)
    assert explanation_tables(found)
    json.dumps(found.as_json(), allow_nan=False)


def forged_weight(document: dict[str, Any]) -> None:
    document["groups"][0]["weight"] *= 1 - 1e-6


def forged_size(document: dict[str, Any]) -> None:
    document["groups"][1]["n_documents"] += 1


@pytest.mark.parametrize("forge", [forged_weight, forged_size])
def test_a_changed_number_is_noticed(untrained: World, forge: Callable[[dict[str, Any]], None], tmp_path: Path):
    make(untrained, "strata", {**STRATA, "mixtures.strata.weight_rule": "size:0.5"})
    document = json.loads((untrained.path("weight_manifest", "strata") / "manifest.json").read_text())
    forge(document)
    document["digest"] = manifest_digest(document)
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    assert verified(untrained, str(tmp_path / "manifest.json")).differences


def test_a_document_that_a_forger_moves_to_a_group_that_does_not_rank_it_is_noticed(untrained: World):
    make(untrained, "strata", STRATA)
    selections = list_selections(untrained.path("grouped_shards", "strata"))
    path = next(each.path for each in selections if (each.group, each.snapshot) == ("front", FIRST_SNAPSHOTS[0]))
    content, table = path.read_bytes(), pl.read_parquet(path)
    shard = documents(untrained, path.stem).with_row_index("place")
    foreign = shard.filter(pl.col("part") == "1").row(0, named=True)
    added = {
        **table.row(0, named=True),
        "row": foreign["place"],
        "doc_id": foreign["doc_id"],
        "n_tokens": foreign["n_tokens"],
    }
    try:
        pl.concat([table, pl.DataFrame([added], schema=table.schema)]).sort("row").write_parquet(path)
        wheres = [each.where for each in verified(untrained, "strata").differences]
    finally:
        path.write_bytes(content)
    assert any(foreign["doc_id"] in where for where in wheres)


RANDOM: dict[str, Any] = {
    **{f"recipes.random{seed}": {"scorer": "random", "options": {"seed": seed}} for seed in (0, 1)},
    **{f"mixtures.random{seed}": {"recipe": f"random{seed}", "token_budget": 1000} for seed in (0, 1)},
}


def random_sides(world: World, overrides: dict[str, Any]) -> list[PinnedInputs]:
    for name in ("random0", "random1"):
        make(world, name, overrides)
    with world.active():
        return [find_inputs(world.instance, world.lake, name) for name in ("random0", "random1")]


def test_two_random_choices_agree_as_chance_has_it_and_one_agrees_with_itself(untrained: World):
    sides = random_sides(untrained, RANDOM)
    found, same = overlap(sides[0], sides[1]), overlap(sides[0], sides[0], 0.25)
    n_documents = documents(untrained).height
    assert (found.n_documents, found.snapshots, found.sampled_share) == (n_documents, FIRST_SNAPSHOTS, 1.0)
    at_half = next(each for each in found.joint if each.top_share == 0.5)
    tops = [
        {doc_id for each in list_selections(side.grouped) for doc_id in pl.read_parquet(each.path)["doc_id"]}
        for side in sides
    ]
    assert (at_half.n_first, at_half.n_both) == (len(tops[0]), len(tops[0] & tops[1]))
    assert at_half.overlap == pytest.approx(0.5, abs=5 * 0.5 / n_documents**0.5)
    assert abs(at_half.rank_correlation or 0) < 5 / n_documents**0.5
    assert {each.overlap for each in same.joint} == {1.0}
    assert [(each.first, each.second, each.top_share) for each in same.groups] == [("corpus", "corpus", 0.25)]
    assert json.loads(json.dumps(found.as_json()))["n_documents"] == n_documents
    assert len(overlap_tables(found)) == 3


def test_mixtures_of_different_snapshots_have_nothing_to_compare(untrained: World):
    apart = {
        f"mixtures.random{i}": {**RANDOM[f"mixtures.random{i}"], "snapshots": [FIRST_SNAPSHOTS[i]]} for i in (0, 1)
    }
    sides = random_sides(untrained, {**RANDOM, **apart})
    with pytest.raises(AutomixerError, match="have no snapshot in common"):
        overlap(sides[0], sides[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"column": "url", "sources": {"front": SOURCES["front"]}},
            "is of none of the sources front; add it to",
        ),
        ({"column": "origin", "sources": {"all": ["*"]}}, "has no column 'origin' to tell sources by; it has doc_id"),
        (
            {"column": "licence", "sources": {"free": ["cc*"]}},
            "has the licence '', which is of none of the sources free",
        ),
    ],
)
def test_a_source_that_nobody_named_is_said(untrained: World, options: dict[str, object], message: str):
    overrides = {"recipes.odd": {"scorer": "stratified", "options": options}}
    with pytest.raises(AutomixerError, match=re.escape(message)):
        untrained.run("joint_influence", "odd", overrides=overrides)


def test_a_source_without_documents_is_named(untrained: World):
    options = {"column": "url", "sources": {**SOURCES, "elsewhere": ["nowhere"]}}
    overrides = {
        "recipes.thin": {"scorer": "stratified", "options": options},
        "mixtures.thin": {"recipe": "thin", "token_budget": 1000},
    }
    with pytest.raises(
        AutomixerError, match="no document of the mixture's snapshots is a candidate of elsewhere; take"
    ):
        make(untrained, "thin", overrides)


def test_snapshots_can_be_the_sources(untrained: World):
    overrides = {
        "recipes.dated": {
            "scorer": "stratified",
            "options": {"column": "snapshot", "sources": {"first": [FIRST_SNAPSHOTS[0]], "others": ["*"]}},
        },
        "mixtures.dated": {"recipe": "dated", "token_budget": 1000, "top_share": 1},
    }
    make(untrained, "dated", overrides)
    groups = untrained.table("grouped_shards", "dated", "groups.parquet")
    sizes = [untrained.table("tokenized_corpus", each, "shard-*.parquet").height for each in FIRST_SNAPSHOTS]
    assert groups["n_documents"].to_list() == sizes


def test_a_budget_beyond_the_corpus_repeats_it_and_says_so(untrained: World):
    make(untrained, "strata", {**STRATA, "mixtures.strata.token_budget": 1_000_000})
    manifest = load_manifest(untrained.path("weight_manifest", "strata") / "manifest.json")
    n_tokens = sum(group.n_tokens for group in manifest.groups)
    assert n_tokens < 1_000_000 / 2, "the corpus is not small enough to be repeated"
    assert (manifest.shortfall, sum(group.allocated_tokens for group in manifest.groups)) == (0, 1_000_000)
    exposures = {group.name: group.exposure for group in manifest.groups}
    assert exposures == {group.name: pytest.approx(500_000 / group.n_tokens, rel=1e-5) for group in manifest.groups}
    note = repetition_note(manifest)
    assert note.startswith("warning: the budget of 1,000,000 tokens is more than some groups hold")
    assert all(f"{name} {exposure:.3g} times" in note for name, exposure in exposures.items())


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({"limits": {"max_group_epochs": 1}}, "groups_within_limit"),
        (
            {"max_epochs": 1, "exhaustion_policy": "stop_and_raise_others", "limits": {"max_shortfall": 0}},
            "shortfall_within_limit",
        ),
    ],
)
def test_a_budget_beyond_the_corpus_is_refused_where_the_settings_say_so(
    untrained: World, options: dict[str, object], check: str
):
    mixture = {**STRATA["mixtures.strata"], "token_budget": 1_000_000, **options}
    with pytest.raises(AutomixerError, match=rf"weight_manifest\[strata\] is made but .*\({check}: .* above `limits"):
        make(untrained, "strata", {**STRATA, "mixtures.strata": mixture})


@pytest.mark.parametrize(
    ("recipe", "missing"),
    [
        ({"scorer": "influence", "proxy": "demo"}, "needs selected_checkpoints[poor], which is not materialised: run"),
        ({"scorer": "perplexity", "proxy": "demo"}, "needs selected_checkpoints[poor], which is not materialised: run"),
        (
            {"scorer": "influence_lexical", "proxy": "demo"},
            "needs selected_checkpoints[poor], which is not materialised",
        ),
        ({"scorer": "ngram"}, f"needs lexical_scores[{FIRST_SNAPSHOTS[0]}], which is not materialised: run"),
        ({"scorer": "bm25"}, f"needs lexical_scores[{FIRST_SNAPSHOTS[0]}], which is not materialised: run"),
        ({"scorer": "column", "options": {"file": "no.parquet", "column": "x"}}, "no.parquet, which does not exist"),
    ],
)
def test_a_strategy_says_which_of_its_inputs_is_missing(untrained: World, recipe: dict[str, object], missing: str):
    with pytest.raises(AutomixerError, match=re.escape(missing)):
        untrained.run("joint_influence", "poor", overrides={"recipes.poor": recipe})
