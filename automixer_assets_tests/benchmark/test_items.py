"""Claims about items as text and tokens: they are what the model is tested on, and the three sets share none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.benchmark.items import encode_pair, only_listed, render_items, write_validation_items
from automixer_assets.benchmark.tasks import LoadedTask, load_tasks
from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.model import load_model
from automixer_assets.proxy.tokenizer import load_tokenizer
from automixer_assets.settings import Tasks
from automixer_assets_tests.benchmark.conftest import CHOICE, choice_items, write_task

Load = Callable[..., dict[str, LoadedTask]]


@pytest.fixture(scope="module")
def lm(checkpoints: dict[str, Path], tokenizer_folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    model: Any = load_model(next(iter(checkpoints.values())))
    make: Any = HFLM
    return make(pretrained=model, tokenizer=load_tokenizer(tokenizer_folder), batch_size=4)


@pytest.mark.parametrize("num_fewshot", [0, 2])
def test_rendered_options_are_the_requests_that_lm_eval_sends(load: Load, num_fewshot: int) -> None:
    for loaded in load(num_fewshot=num_fewshot).values():
        items = render_items(loaded)
        loaded.task.set_fewshot_seed(loaded.seed)
        loaded.task.build_all_requests()
        sent: dict[int, list[tuple[str, str]]] = {}
        for instance in loaded.task.instances:
            assert instance.doc_id is not None
            arguments: Any = instance.args
            sent.setdefault(instance.doc_id, []).append(arguments)
        assert [list(item.options) for item in items] == list(sent.values())


def test_a_question_is_rendered_with_its_gold_answer(load: Load) -> None:
    item = render_items(load()["three"])[4]
    source = choice_items("three validation", 8, 3)[4]
    assert item.context == f"Question: {source['question']}\nAnswer:"
    assert item.continuation == " " + source["choices"][source["gold"]]
    assert item.answer == source["choices"][source["gold"]]
    assert item.item_hash == hashlib.sha256(item.text.encode()).hexdigest()


def test_in_a_blank_the_context_varies_and_the_continuation_is_fixed(load: Load) -> None:
    item = render_items(load()["blanks"])[1]
    assert [context for context, _ in item.options] == [
        "In validation 1 the stone hid the lamp since the stone",
        "In validation 1 the stone hid the lamp since the lamp",
    ]
    assert {continuation for _, continuation in item.options} == {" was too bright."}
    assert item.text == "In validation 1 the stone hid the lamp since the lamp was too bright."


def test_few_shot_examples_do_not_change_an_items_hash(load: Load) -> None:
    plain, shown = render_items(load()["three"]), render_items(load(num_fewshot=2)["three"])
    assert [item.item_hash for item in plain] == [item.item_hash for item in shown]
    assert all(
        item.text != other.text and other.text.endswith(item.text) for item, other in zip(plain, shown, strict=True)
    )


def test_an_item_is_not_its_own_example(load: Load) -> None:
    own = render_items(load("gradient", num_fewshot=3, gradient_items=4)["three"])
    for item in own:
        assert all(item.context.count(other.context.split("Question: ")[-1]) <= (other == item) for other in own)


texts = st.text(alphabet="ab \n<é東.", max_size=12)


@given(context=texts, continuation=texts.filter(str.strip))
@settings(max_examples=150, deadline=None)
def test_pairs_are_split_as_hflm_splits_them(lm: Any, context: str, continuation: str) -> None:
    if context and not context.strip():  # lm-eval would encode an empty context; no task has such
        return
    captured: list[Any] = []
    original = lm._loglikelihood_tokens
    lm._loglikelihood_tokens = lambda requests, **_: captured.extend(requests) or []
    try:
        lm.loglikelihood([type("Request", (), {"args": (context, continuation)})()], disable_tqdm=True)
    finally:
        lm._loglikelihood_tokens = original
    assert encode_pair(lm.tokenizer, context, continuation) == (captured[0][1], captured[0][2])


@pytest.fixture
def written(base: Path, cache: Path, tasks: Tasks, tokenizer_folder: Path, tmp_path: Path) -> Path:
    limited = tasks.model_copy(update={"gradient_items": 5})
    write_validation_items(limited, base, load_tokenizer(tokenizer_folder), tmp_path / "out", cache=cache)
    return tmp_path / "out"


def test_gradient_items_hold_text_tokens_and_masks(written: Path, tokenizer_folder: Path, load: Load) -> None:
    table = pl.read_parquet(written / "gradient_items.parquet")
    assert table.columns == ["task", "item_hash", "text", "token_ids", "sequence_mask", "answer_mask"]
    assert table.schema["token_ids"] == pl.List(pl.Int32)
    assert table["task"].value_counts(sort=False)["count"].to_list() == [5, 5, 5]
    tokenizer = load_tokenizer(tokenizer_folder)
    items = [item for loaded in load("gradient", gradient_items=5).values() for item in render_items(loaded)]
    for row, item in zip(table.iter_rows(named=True), items, strict=True):
        assert tokenizer.decode(row["token_ids"]) == row["text"] == item.text
        assert row["sequence_mask"] == [False] + [True] * (len(row["token_ids"]) - 1)
        answer = [token for token, counts in zip(row["token_ids"], row["answer_mask"], strict=True) if counts]
        assert tokenizer.decode(answer) == item.continuation


def test_item_sets_list_every_item_once(written: Path) -> None:
    table = pl.read_parquet(written / "item_sets.parquet")
    assert table.columns == ["task", "item_set", "item_hash", "doc_index"]
    counts = {(task, item_set): n for task, item_set, n in table.group_by("task", "item_set").len().iter_rows()}
    assert counts["three", "gradient"] == 5
    assert counts["blanks", "selection"] == 8
    assert counts["mixed", "final"] == 7
    assert table["item_hash"].n_unique() == table.height


def test_long_items_lose_their_beginning(
    base: Path, cache: Path, tasks: Tasks, tokenizer_folder: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    write_validation_items(tasks, base, tokenizer, tmp_path / "whole", cache=cache)
    summary = write_validation_items(tasks, base, tokenizer, tmp_path / "cut", cache=cache, max_length=6)
    whole = pl.read_parquet(tmp_path / "whole" / "gradient_items.parquet")["token_ids"].to_list()
    cut = pl.read_parquet(tmp_path / "cut" / "gradient_items.parquet")
    assert cut["token_ids"].to_list() == [ids[-6:] for ids in whole]
    assert not any(mask[0] for mask in cut["answer_mask"].to_list())
    assert summary.gradient_tokens == {"mixed": 45, "three": 45, "blanks": 45}
    assert summary.counts["mixed", "final"] == 7


@pytest.fixture
def leaky(tmp_path: Path) -> Tasks:
    """A task of which two gradient items come back among the other items, their options in another order."""
    train = choice_items("t", 4, 3)
    leaked = [{**item, "choices": item["choices"][::-1], "gold": 2 - item["gold"]} for item in train[2:]]
    validation = [*choice_items("v", 3, 3), leaked[0]]
    splits = {"train": train, "validation": validation, "test": [*choice_items("x", 2, 3), *leaked]}
    write_task(tmp_path / "tasks", "leaky", CHOICE, splits)
    return Tasks(names=["leaky"], directory="tasks")


def test_an_item_in_two_sets_is_refused(leaky: Tasks, cache: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    message = r"task 'leaky': item 2 of the gradient items is also item 3 of the selection items \('Question: What does"
    with pytest.raises(AutomixerError, match=message):
        write_validation_items(leaky, tmp_path, load_tokenizer(tokenizer_folder), tmp_path / "out", cache=cache)
    assert not (tmp_path / "out").exists()


def test_shared_items_can_be_dropped_from_the_earlier_set(
    leaky: Tasks, cache: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    summary = write_validation_items(leaky, tmp_path, tokenizer, tmp_path / "out", cache=cache, shared="drop")
    assert summary.dropped == {("leaky", "gradient"): 2, ("leaky", "selection"): 1}
    assert summary.counts == {("leaky", "gradient"): 2, ("leaky", "selection"): 3, ("leaky", "final"): 4}
    table = pl.read_parquet(tmp_path / "out" / "item_sets.parquet")
    assert table["item_hash"].n_unique() == table.height == 9
    whole = load_tasks(leaky, tmp_path, "selection", cache=cache)
    listed = only_listed(whole, table)["leaky"]
    expected = table.filter(pl.col("item_set") == "selection")
    assert [item.item_hash for item in render_items(listed)] == expected["item_hash"].to_list()
    assert listed.doc_indices == (0, 1, 2)
    assert len(listed.golds) == len(listed) == 3
    assert len(whole["leaky"].documents) == 4
    with pytest.raises(AutomixerError, match=r"lists no selection item of task 'leaky'"):
        only_listed(whole, table.filter(pl.col("item_set") == "final"))


def test_a_set_that_would_be_empty_is_refused(base: Path, cache: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    same = {"default_splits": {"selection": "validation", "final": "validation[:100%]"}}
    settings = Tasks.model_validate({"names": ["three"], "directory": "tasks", **same})
    with pytest.raises(AutomixerError, match=r"every selection item of task 'three' is in a later item set"):
        write_validation_items(settings, base, load_tokenizer(tokenizer_folder), tmp_path, cache=cache, shared="drop")


def test_overlapping_slices_are_refused(
    base: Path, cache: Path, tasks: Tasks, tokenizer_folder: Path, tmp_path: Path
) -> None:
    overlapping = {"default_splits": {"selection": "validation[:60%]", "final": "validation[40%:]"}}
    settings = Tasks.model_validate({**tasks.model_dump(), **overlapping})
    with pytest.raises(AutomixerError, match=r"of the selection items is also item 0 of the final items"):
        write_validation_items(settings, base, load_tokenizer(tokenizer_folder), tmp_path, cache=cache)
