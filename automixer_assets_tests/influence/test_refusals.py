"""Bad input is refused in one sentence that names it; broken documents are raised or quarantined, never averaged in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from automixer_assets.errors import AutomixerError
from automixer_assets.influence import fit_query, memory, score_documents
from automixer_assets_tests.influence import tiny

BROKEN = 40


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny.llama()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"validation": {}}, "names no task"),
        ({"validation": {"piqa": []}}, "validation task 'piqa' has no items"),
        ({"validation": {"piqa": [([1, 2], [True, False])]}}, "item 0 of task 'piqa' has no counted token"),
        ({"validation": {"piqa": [([1, 2], [True])]}}, "item 0 of task 'piqa' has 2 tokens but a loss mask of shape"),
        ({"validation": {"piqa": [([1, 99], [False, True])]}}, "item 0 of task 'piqa' holds token id 99"),
        ({"reference": []}, "reference sample is empty"),
        ({"reference": [[1], [2]]}, "at least two tokens"),
        ({"reference": [[1, 2], [3, -1]]}, "reference document 1 holds token id -1"),
        ({"reference": [[0.5, 1.5]]}, "reference document 0 must be a flat sequence of integer token ids"),
        (
            {"reference": [[1, 2, 3], [4, 5]], "curvature": "kfac"},
            "has 3 predicted tokens, but curvature 'kfac' needs at least 16, one per",
        ),
        ({"reference": [], "curvature": "kfac"}, "has 0 predicted tokens, but curvature 'kfac' needs at least 16"),
        (
            {"layers": ("last_block",), "curvature": "kfac"},
            "knows the layers embedding, head only, not 'model.layers.1",
        ),
        ({"curvature": "newton"}, "curvature 'newton' is not known: choose from datainf, identity, kfac"),
        ({"layers": ("middle",)}, "last_block or the model's linear modules such as model.layers.1.self_attn.q_proj"),
        ({"layers": ("embedding", "lm_head")}, "not lm_head"),
        ({"layers": ()}, "layers must be chosen from embedding, head, not nothing"),
        ({"pool": {"all": {"answers": 1.0}}}, "task 'sequences' is in no pool"),
        ({"pool": {"all": {"answers": 1.0, "sequences": 1.0, "piqa": 1.0}}}, "the pools name task 'piqa'"),
        ({"pool": {"a": {"answers": 0.0}, "b": {"sequences": 1.0}}}, "pool 'a' has no task of a weight other than 0"),
        ({"max_length": 13}, "max_length 13 exceeds the model's context of 12"),
        ({"max_length": 1}, "max_length must be at least 2"),
    ],
)
def test_a_query_is_refused_in_one_sentence(model: PreTrainedModel, change: dict[str, Any], sentence: str) -> None:
    arguments: dict[str, Any] = {"validation": tiny.tasks(), "reference": tiny.reference(), **change}
    with pytest.raises(AutomixerError, match=sentence) as raised:
        fit_query(model, **arguments)
    assert "\n" not in str(raised.value)


def test_more_directions_than_memory_holds_are_refused_before_any_work(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 2 * 2 * 2 * 41 * 16 * 8  # v and r, of two tasks, of two matrices, in float64
    monkeypatch.setattr(memory, "_free_memory", lambda device: needed)
    fit_query(model, tiny.tasks(), tiny.reference())
    monkeypatch.setattr(memory, "_free_memory", lambda device: needed - 1)
    with pytest.raises(AutomixerError, match=r"2 directions need .* GiB for v and r, but cpu has .*: pool tasks"):
        fit_query(model, tiny.tasks(), tiny.reference())
    fit_query(model, tiny.tasks(), tiny.reference(), pool={"all": {"answers": 1.0, "sequences": 1.0}})


def test_ids_outside_the_vocabulary_name_the_document(model: PreTrainedModel) -> None:
    query = fit_query(model, tiny.tasks(), tiny.reference())
    with pytest.raises(AutomixerError, match="document 1 holds token id 41, but the model's vocabulary ends at 40"):
        score_documents(model, [[1, 2], [3, 41]], query)


def test_a_query_of_other_matrices_is_refused(model: PreTrainedModel) -> None:
    query = fit_query(tiny.llama(tied=True), tiny.tasks(), tiny.reference())
    with pytest.raises(AutomixerError, match=r"has tied .* has untied .*: score with the model it was fitted on"):
        score_documents(model, tiny.corpus(), query)


def test_a_non_finite_document_is_named(model: PreTrainedModel) -> None:
    query = fit_query(model, tiny.tasks(), [[1, 2, 3]])
    with torch.no_grad():
        tiny.matrices(model)["embedding"][BROKEN] = float("nan")
    with pytest.raises(AutomixerError, match=r"document 1 has a non-finite loss or influence \(1 of 3 documents do\)"):
        score_documents(model, [[1, 2, 3], [4, BROKEN, 5, 6], [7, 8]], query)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_quarantine_leaves_null_and_spares_the_batch_mates(model: PreTrainedModel, value: float) -> None:
    documents = [[1, 2, 3], [4, BROKEN, 5, 6], [7, 8]]
    query = fit_query(model, tiny.tasks(), [[1, 2, 3]])
    expected = score_documents(model, documents, query)
    with torch.no_grad():
        tiny.matrices(model)["embedding"][BROKEN] = value
    table = score_documents(model, documents, query, on_nonfinite="quarantine")
    assert [table[name].null_count for name in table.column_names] == [1, 1, 0, 1]
    for row in (0, 2):
        found, sound = (np.array(list(t.slice(row, 1).to_pylist()[0].values())) for t in (table, expected))
        np.testing.assert_allclose(found, sound, rtol=1e-12)


def test_a_validation_gradient_that_is_not_finite_names_its_task(model: PreTrainedModel) -> None:
    with torch.no_grad():
        tiny.matrices(model)["embedding"][BROKEN] = float("nan")
    items = {"sound": [tiny.whole([1, 2, 3])], "broken": [tiny.whole([4, BROKEN, 5])]}
    with pytest.raises(AutomixerError, match="validation gradient of task 'broken' is not finite"):
        fit_query(model, items, [[1, 2, 3]])


def test_a_reference_document_that_is_not_finite_is_named(model: PreTrainedModel) -> None:
    with torch.no_grad():
        tiny.matrices(model)["embedding"][BROKEN] = float("nan")
    with pytest.raises(AutomixerError, match="reference document 1 has a non-finite gradient"):
        fit_query(model, {"sound": [tiny.whole([1, 2, 3])]}, [[1, 2, 3], [4, BROKEN, 5]])


def test_a_reference_document_without_a_finite_loss_is_named_under_kfac(model: PreTrainedModel) -> None:
    with torch.no_grad():
        tiny.matrices(model)["embedding"][BROKEN] = float("nan")
    reference = [tiny.documents([12])[0], [4, BROKEN, 5], tiny.documents([12])[0]]
    with pytest.raises(AutomixerError, match="reference document 1 has a non-finite loss: check the checkpoint"):
        fit_query(model, {"sound": [tiny.whole([1, 2, 3])]}, reference, curvature="kfac")


def test_a_model_without_an_output_embedding_is_refused(model: PreTrainedModel) -> None:
    with pytest.raises(
        AutomixerError, match=r"LlamaModel has no output embedding.*load the checkpoint with AutoModelFo"
    ):
        fit_query(model.base_model, tiny.tasks(), tiny.reference())  # pyright: ignore[reportArgumentType]


def test_a_vocabulary_larger_than_the_head_is_refused_where_it_is_used(model: PreTrainedModel) -> None:
    model.set_output_embeddings(torch.nn.Linear(16, 38, bias=False, dtype=torch.float64))
    query = fit_query(model, {"task": [tiny.whole([1, 2, 37])]}, [[3, 4]])
    with pytest.raises(AutomixerError, match="document 1 holds token id 40, but the model's output matrix ends at 37"):
        score_documents(model, [[1, 2], [3, BROKEN]], query)
    with pytest.raises(AutomixerError, match="item 0 of task 'task' holds token id 38, but the model's output matrix"):
        fit_query(model, {"task": [tiny.whole([1, 38])]}, [[3, 4]])


def test_a_layer_that_sees_only_some_tokens_is_refused(model: PreTrainedModel) -> None:
    def routed(module: Any, inputs: Any) -> Any:
        return (inputs[0].flatten(0, 1),)

    model.get_submodule("model.layers.1.mlp.gate_proj").register_forward_pre_hook(routed)
    model.get_submodule("model.layers.1.mlp.gate_proj").register_forward_hook(
        lambda module, inputs, output: output.reshape(1, -1, output.shape[-1])
    )
    items = {"task": [tiny.whole(tiny.documents([9])[0])]}
    with pytest.raises(
        AutomixerError, match=r"'model.layers.1.mlp.gate_proj' does not run on every token of every text"
    ):
        fit_query(model, items, [], layers=("last_block",), curvature="identity")


def test_a_layer_that_takes_no_part_is_refused(model: PreTrainedModel) -> None:
    model.add_module("spare", torch.nn.Linear(16, 16).double())
    with pytest.raises(AutomixerError, match="layer 'spare' takes no part in the forward pass"):
        fit_query(model, tiny.tasks(), tiny.reference(), layers=("head", "spare"))


def test_a_query_of_other_linear_layers_is_refused(model: PreTrainedModel) -> None:
    query = fit_query(tiny.gpt2(), tiny.tasks(), tiny.reference(), layers=("last_block",))
    with pytest.raises(AutomixerError, match=r"not transformer.h.1.attn.c_attn"):
        score_documents(model, tiny.corpus(), query)


def test_a_model_that_transforms_its_logits_is_refused(model: PreTrainedModel) -> None:
    plain = model.forward

    def capped(*arguments: Any, **options: Any) -> Any:
        output = plain(*arguments, **options)
        output.logits = torch.tanh(output.logits)
        return output

    model.forward = capped
    with pytest.raises(AutomixerError, match="transforms its embeddings or logits"):
        fit_query(model, tiny.tasks(), tiny.reference())


def test_no_documents_give_an_empty_table(model: PreTrainedModel) -> None:
    query = fit_query(model, tiny.tasks(), tiny.reference())
    table = score_documents(model, [], query)
    assert table.num_rows == 0
    assert table.column_names == ["influence_answers", "influence_sequences", "n_tokens", "loss"]
