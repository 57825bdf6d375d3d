from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from automixer_assets.answers.inputs import recorded_settings
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.build import manifest_options
from automixer_assets.mixture.manifest import (
    Manifest,
    load_manifest,
    manifest_digest,
    model_schema,
    shipped_schema,
    validate_manifest_json,
    write_manifest,
)
from automixer_assets.pages.mixture import contrast_note
from automixer_assets.settings import RECIPE_PROFILES, Mixture, Recipe, differing_options
from automixer_assets.settings.mixture import CheapFilter
from automixer_assets_tests.mixture.tiny import GROUPS, PIN, tiny_mixture

OLD_MANIFESTS = sorted((Path(__file__).parent / "manifests").glob("*.json"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    return tiny_mixture(tmp_path_factory.mktemp("lake")).manifest


def test_the_shipped_schema_is_the_models_schema():
    assert shipped_schema() == model_schema(), "run `python -m automixer_assets.mixture.manifest`"


@pytest.mark.parametrize("path", OLD_MANIFESTS, ids=lambda path: path.name)
def test_old_manifests_still_load(path):
    validate_manifest_json(json.loads(path.read_text()))
    manifest = load_manifest(path)
    assert manifest_digest(manifest) == manifest.digest


def test_a_manifest_survives_the_disk_and_follows_its_schema(manifest, tmp_path):
    write_manifest(manifest, tmp_path / "manifest.json")
    assert load_manifest(tmp_path / "manifest.json") == manifest
    validate_manifest_json(json.loads((tmp_path / "manifest.json").read_text()))


def test_weights_sum_to_one_and_phases_name_every_group(manifest):
    assert [group.name for group in manifest.groups] == list(GROUPS)
    assert sum(group.weight for group in manifest.groups) == pytest.approx(1, abs=1e-12)
    assert set(manifest.phases[0].weights) == set(GROUPS)
    assert sum(group.allocated_tokens for group in manifest.groups) == manifest.token_budget


def test_what_the_contrast_of_the_weights_means_is_said(manifest):
    def note(contrast: float | None, groups: int) -> str:
        return contrast_note(
            manifest.model_copy(update={"weight_contrast": contrast, "groups": manifest.groups[:groups]})
        )

    assert note(1.0, 1) == "1.000 (one group: nothing to weigh)"
    assert note(1.05, 2) == "1.050 (warning: the weights are nearly uniform)"
    assert note(3.0, 2) == "3.000"
    assert note(None, 2) == "unbounded: a group has weight 0"


def test_shard_uris_lead_to_the_selection_files(tmp_path):
    tiny = tiny_mixture(tmp_path)
    for group in tiny.manifest.groups:
        assert sum(shard.n_documents for shard in group.shards) == group.n_documents
        assert sum(shard.n_tokens for shard in group.shards) == group.n_tokens
        for shard in group.shards:
            assert (shard.snapshot, shard.shard) == tuple(shard.uri.removesuffix(".parquet").split("/")[-2:])
            assert hashlib.sha256((tmp_path / shard.uri).read_bytes()).hexdigest() == shard.sha256


def test_the_digest_ignores_when_and_where(manifest, tmp_path):
    moved = [PIN.model_copy(update={"run_id": "other", "storage_id": None, "uri": "elsewhere"})]
    again = tiny_mixture(tmp_path, pins=moved).manifest
    assert again.digest == manifest.digest == manifest_digest(manifest)
    later = manifest.model_copy(update={"created_by": manifest.created_by.model_copy(update={"version": "9"})})
    assert manifest_digest(later) == manifest.digest


@pytest.mark.parametrize(
    "change", [{"token_budget": 1}, {"pins": [PIN.model_copy(update={"data_version": "v2"})]}, {"options": {"a": 1}}]
)
def test_the_digest_covers_what_determines_the_result(manifest, change):
    assert manifest_digest(manifest.model_copy(update=change)) != manifest.digest


def test_weights_that_do_not_sum_to_one_are_refused(manifest, tmp_path):
    document = manifest.model_dump(mode="json")
    document["groups"][0]["weight"] /= 2
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(AutomixerError, match=r"manifest\.json is not valid: .*weights sum to .*, not to 1"):
        load_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("{", "not valid JSON"),
        ("[]", "schema_version None"),
        ('{"schema_version": 99}', "schema_version 99"),
        ('{"schema_version": 1}', "mixture: Field required"),
    ],
)
def test_what_is_no_manifest_is_refused_in_a_sentence(tmp_path, text, message):
    path = tmp_path / "manifest.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AutomixerError, match=message):
        load_manifest(path)


def test_the_schema_names_the_place_of_an_error(manifest):
    document = manifest.model_dump(mode="json")
    document["groups"][0]["n_tokens"] = -1
    with pytest.raises(AutomixerError, match=r"\$\.groups\[0\]\.n_tokens"):
        validate_manifest_json(document)


def test_options_name_every_departure_from_profile_and_defaults():
    plain = manifest_options(
        Mixture.model_validate({"recipe": "r", "token_budget": 1}), Recipe.model_validate({"proxy": "p"})
    )
    changed = manifest_options(
        Mixture.model_validate({"recipe": "r", "token_budget": 1, "top_share": 0.3, "nonpositive_density": "softmax"}),
        Recipe.model_validate({"proxy": "p", "profile": "robust", "alpha": "uniform", "query": "answer"}),
    )
    assert plain == {}
    assert changed == {
        "mixture.nonpositive_density": "softmax",
        "mixture.top_share": 0.3,
        "recipe.alpha": "uniform",
        "recipe.curvature": "kfac",  # the robust profile's, but not the option's own default
        "recipe.profile": "robust",
        "recipe.query": "answer",
    }


def test_a_profile_that_changes_later_does_not_change_what_a_manifest_says(tmp_path, monkeypatch):
    manifest = tiny_mixture(tmp_path).manifest
    recipe = Recipe.model_validate({"proxy": "p", "profile": "robust"})
    mixture = Mixture.model_validate({"recipe": "r", "profile": "robust", "token_budget": 1})
    options = manifest_options(mixture, recipe)
    assert differing_options("robust", options) == {}, "nothing that a reader would want to hear about"
    written = manifest.model_copy(update={"profile": "robust", "options": options})
    before_profiles_had_it = manifest.model_copy(update={"profile": "robust", "options": {}})
    assert recorded_settings(written)[1].curvature == recipe.curvature == "kfac"
    assert recorded_settings(before_profiles_had_it)[1].curvature == "datainf"
    assert recorded_settings(written)[0].filter == mixture.filter == CheapFilter(score="bm25", drop_share=0.3)
    assert recorded_settings(before_profiles_had_it)[0].filter is None
    monkeypatch.setitem(RECIPE_PROFILES["robust"], "curvature", "identity")
    assert recorded_settings(written)[1].curvature == "kfac"
    assert differing_options("robust", options) == {"recipe.curvature": "kfac"}


def test_groups_of_another_recipe_are_refused(tmp_path):
    from automixer_assets.mixture.build import build_manifest

    tiny = tiny_mixture(tmp_path)
    with pytest.raises(AutomixerError, match="but the recipe has"):
        build_manifest(
            name="demo",
            mixture=Mixture.model_validate({"recipe": "demo", "token_budget": 1}),
            recipe=Recipe.model_validate({"proxy": "demo"}),
            origins=[],
            grouped=tmp_path / "grouped_shards" / "abc",
            lake_root=tmp_path,
            tokenizer_digest="tok",
            pins=[],
            created_by=tiny.manifest.created_by,
        )
