"""Leaked and removed documents end to end: what is left out, what is made again for it, and who is told."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import polars as pl
import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.pages.characteristics import TABLES
from automixer_assets.resources import PROJECT_ROOT
from automixer_assets_tests.command import SNAPSHOT, Place, create_finished_place
from automixer_assets_tests.world import FIRST_SNAPSHOTS, N_DOCUMENTS, World, fingerprints

N_UNION = sum(N_DOCUMENTS.values())
REMADE = [
    "grouped_shards[demo]",
    "group_characteristics[demo]",
    "weight_manifest[demo]",
    "weight_uncertainty[demo]",
    "target_runs[demo]",
]
EXCLUDE = {"mixtures.demo.leaked_documents": "exclude"}


def chosen(world: World, mixture: str = "demo") -> dict[str, set[str]]:
    """Document ids of each group."""
    found: dict[str, set[str]] = {}
    for selection in list_selections(world.path("grouped_shards", mixture)):
        found.setdefault(selection.group, set()).update(pl.read_parquet(selection.path)["doc_id"])
    return found


def leaked(world: World) -> set[str]:
    tables = [world.table("leakage", snapshot, "shard-*.parquet") for snapshot in FIRST_SNAPSHOTS]
    return set(pl.concat(tables).filter(pl.col("n_ngrams") > 0)["doc_id"])


def rows_point_at_their_documents(world: World) -> bool:
    for selection in list_selections(world.path("grouped_shards", "demo")):
        kept = pl.read_parquet(selection.path)
        shard = world.table("tokenized_corpus", selection.snapshot, f"{selection.shard}.parquet")
        if not kept.select("doc_id", "n_tokens").equals(shard[kept["row"]].select("doc_id", "n_tokens")):
            return False
    return True


def test_every_flag_names_a_scored_item_whose_words_the_document_has(finished: World) -> None:
    items = finished.table("scored_items", None, "scored_items.parquet")
    sets = finished.table("validation_items", None, "item_sets.parquet").filter(pl.col("item_set") != "gradient")
    assert set(items["item_hash"]) == set(sets["item_hash"])
    for snapshot in FIRST_SNAPSHOTS:
        flags = finished.table("leakage", snapshot, "shard-*.parquet")
        inventory = finished.table("snapshot_inventory", snapshot, "documents/*.parquet")
        assert flags["doc_id"].to_list() == inventory["doc_id"].to_list()
        source = pl.read_parquet(finished.sources / snapshot / "*.parquet", columns=["id", "text"])
        for row in flags.filter(pl.col("n_ngrams") > 0).iter_rows(named=True):
            assert row["item_hash"] in set(items["item_hash"])
            text = source.filter(pl.col("id") == row["doc_id"])["text"][0]
            spoken = "".join(character if character.isalnum() else " " for character in text.lower()).split()
            assert f" {row['shared_words']} " in f" {' '.join(spoken)} "


def test_leaked_documents_are_kept_counted_or_excluded_as_the_mixture_says(world: World) -> None:
    flagged = leaked(world)
    assert flagged, "the micro-world's documents state what its items ask"
    before, influence = chosen(world), fingerprints(world.lake.root / "joint_influence")
    counts = world.table("group_characteristics", "demo", "leaked.parquet")
    for group, ids in before.items():
        assert counts.filter(group=group)["n_leaked"].sum() == len(ids & flagged) > 0

    assert world.run(overrides=EXCLUDE) == [*REMADE, "comparison_table"]
    after = chosen(world)
    assert set(after) == set(before)
    for group, ids in after.items():
        assert not ids & flagged
        assert len(ids) == math.ceil((N_UNION - len(flagged)) / 2), "they take no part in the top share"
        assert before[group] - flagged <= ids, "what was chosen before is chosen still: the bar is lower now"
    assert rows_point_at_their_documents(world)
    excluded = world.table("grouped_shards", "demo", "exclusions.parquet")
    assert (set(excluded["reason"]), excluded["n_documents"].sum()) == ({"leaked"}, len(flagged))
    assert fingerprints(world.lake.root / "joint_influence") == influence
    manifest = load_manifest(world.path("weight_manifest", "demo") / "manifest.json")
    assert manifest.options["mixture.leaked_documents"] == "exclude"
    assert {pin.asset for pin in manifest.pins} >= {"grouped_shards", "tokenized_corpus"}


def test_flags_by_other_items_than_are_scored_are_refused(world: World) -> None:
    """Other gradient items change no flag; fewer final items do, and the flags are then made again first."""
    more = {"tasks.gradient_items": 9}
    assert world.run("validation_items", overrides=more) + world.run("scored_items", overrides=more) == [
        "validation_items",
        "scored_items",
    ]
    flags = fingerprints(world.lake.root / "leakage")
    world.run("leakage", overrides=more)  # a lookup: equal items of a newer source (decision 6)
    assert fingerprints(world.lake.root / "leakage") == flags
    fewer = {"tasks.final_items": 5, **EXCLUDE}
    for asset in ("validation_items", "scored_items"):
        world.run(asset, overrides=fewer)
    with pytest.raises(AutomixerError, match="would mix two versions of scored_items"):
        world.run("grouped_shards", "demo", overrides=fewer)


def test_a_list_removes_documents_from_then_on_and_nothing_is_scored_again(world: World) -> None:
    removal_list = world.state / "removed.txt"
    overrides = {"corpus.removal_list": "removed.txt"}
    victim = min(next(iter(chosen(world).values())))
    scores = {name: fingerprints(world.lake.root / name) for name in ("checkpoint_influence", "joint_influence")}
    removal_list.write_text(f"{victim}\nno-such-document\n")
    ran = world.run(overrides=overrides)
    lists = [f"removed_documents[{snapshot}]" for snapshot in FIRST_SNAPSHOTS]
    uniform = [step.replace("demo", "uniform") for step in REMADE]
    assert sorted(ran) == sorted([*lists, *REMADE, *uniform, "comparison_table"])
    assert all(victim not in ids for mixture in ("demo", "uniform") for ids in chosen(world, mixture).values())
    assert rows_point_at_their_documents(world)
    assert scores == {name: fingerprints(world.lake.root / name) for name in scores}
    unmatched = [world.table("removed_documents", snapshot, "unmatched.parquet") for snapshot in FIRST_SNAPSHOTS]
    assert all("no-such-document" in table["entry"].to_list() for table in unmatched)

    removal_list.write_text(f"# a remark\n{victim}\nanother-that-does-not-exist\n")
    assert world.run(overrides=overrides) == lists, "the list names the same documents"


def test_a_manifest_is_not_made_from_groups_that_hold_removed_documents(world: World) -> None:
    removal_list = world.state / "removed.txt"
    overrides = {"corpus.removal_list": "removed.txt"}
    first, second = sorted(next(iter(chosen(world).values())))[:2]
    removal_list.write_text(first)
    world.run("removed_documents", overrides=overrides)
    world.run("grouped_shards", "demo", overrides=overrides)
    removal_list.write_text(f"{first}\n{second}\n")
    with pytest.raises(AutomixerError, match=r"needs removed_documents\[[\w-]+\], which was made with other settings"):
        world.run("weight_manifest", "demo", overrides=overrides)
    world.run("removed_documents", overrides=overrides)
    with pytest.raises(AutomixerError, match=r"would mix two versions of removed_documents"):
        world.run("weight_manifest", "demo", overrides=overrides)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place whose uniform mixture is made; tests change its removal list."""
    place = create_finished_place(tmp_path_factory.mktemp("removals") / "place")
    place.change_settings(lambda settings: settings["corpus"].update(removal_list="removed.csv"))
    return place


def first_document(place: Place) -> tuple[str, str]:
    source = pl.read_parquet(min((place.snapshots / SNAPSHOT).glob("*.parquet")))
    return source["id"][0], source["url"][0]


def removals(place: Place, content: str) -> tuple[int, dict]:
    (place.state / "removed.csv").write_text(content)
    result = place.run("corpus", "removals", "--json")
    assert result.stderr == ""
    return result.code, json.loads(result.stdout)


def test_removals_names_the_mixtures_that_hold_removed_documents(place: Place) -> None:
    doc_id, url = first_document(place)
    (row,) = json.loads(place.run("mixture", "list", "--json").stdout)
    code, report = removals(place, f"id,url\nnobody,{url}\n")
    assert (code, report["n_entries"], report["unmatched"]) == (1, 2, ["nobody"])
    assert report["checked"] == [f"uniform@{row['digest']}"]
    (touched,) = report["mixtures"]
    assert (touched["mixture"], touched["digest"]) == ("uniform", row["digest"])
    assert (touched["n_documents"], touched["groups"], touched["first_ids"]) == (1, {"corpus": 1}, [doc_id])
    printed = place.run("corpus", "removals")
    assert printed.code == 1
    assert all(word in printed.stdout for word in (f"uniform@{row['digest'][:12]}", "2 entries, 1 name no document"))


def test_removals_is_content_when_no_mixture_is_touched(place: Place) -> None:
    code, report = removals(place, "id\nnobody\n")
    assert (code, report["mixtures"], report["unmatched"]) == (0, [], ["nobody"])
    printed = place.run("corpus", "removals")
    assert printed.code == 0
    assert "none of the latest mixtures contains a removed document: uniform@" in " ".join(printed.stdout.split())


def test_a_removed_document_leaves_the_mixture_and_the_report(place: Place) -> None:
    _, url = first_document(place)
    assert removals(place, f"url\n{url}\n")[0] == 1
    selection = " or ".join(f"key:{name}" for name in ("removed_documents", "grouped_shards", "weight_manifest"))
    made = place.run("materialize", selection)
    assert (made.code, made.stdout) == (0, "3 materialised, 0 already current\n"), made.stderr
    code, report = removals(place, f"url\n{url}\n")
    assert (code, report["mixtures"], report["unmatched"]) == (0, [], [])


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (None, 1, "does not exist: correct corpus.removal_list or remove that setting"),
        ("why\nlaw\n", 1, "has none of the columns 'id', 'doc_id', 'url', 'content_hash' (it has: why)"),
        ("url\nexample.org\n", 1, "line 1: 'example.org' is not a URL (such as https://example.org/page)"),
    ],
)
def test_a_bad_list_is_one_sentence(place: Place, content: str | None, code: int, said: str) -> None:
    path = place.state / "removed.csv"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    for command in (["corpus", "removals"], ["materialize", "removed_documents"]):
        result = place.run(*command)
        assert (result.code, result.stdout) == (code, "")
        assert said in result.sentence


def test_without_a_list_the_command_says_which_setting_it_needs(place: Place, tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(place.config.read_text().replace('"removal_list": "removed.csv"', '"removal_list": null'))
    result = place.run("corpus", "removals", "--config", str(config))
    assert (result.code, result.stdout) == (2, "")
    assert result.sentence == "the settings name no removal list: set corpus.removal_list"


def test_why_is_answered_for_the_very_groups_of_a_mixture(world: World) -> None:
    (world.folder / "home").mkdir()
    shutil.copy(PROJECT_ROOT / "dagster.yaml", world.folder / "home")
    place = Place(world.folder)
    answered = place.run("mixture", "show", "demo", "--why", "--json")
    assert (answered.code, answered.stderr) == (0, "")
    document = json.loads(answered.stdout)
    assert list(document) == ["mixture", "digest", *TABLES]
    for name in TABLES:
        assert document[name] == world.table("group_characteristics", "demo", f"{name}.parquet").to_dicts()
    printed = place.run("mixture", "show", "demo", "--why").stdout
    assert all(word in printed for word in ("characteristic terms", "quality and length", *world.checkpoints()))

    for asset in ("grouped_shards", "weight_manifest"):
        world.run(asset, "demo", overrides=EXCLUDE)
    refused = place.run("mixture", "show", "demo", "--why")
    assert (refused.code, refused.stdout) == (2, "")
    assert (
        "was not looked for yet: run `automixer materialize +group_characteristics --partition demo`"
        in refused.sentence
    )
