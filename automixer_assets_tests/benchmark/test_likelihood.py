"""Claims about log-likelihoods: sharing a question between its options changes the work, not the figures."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from automixer_assets.benchmark.likelihood import SHARING_MODELS, log_likelihoods, plan_rows, shares_rows

VOCABULARY, CONTEXT = 50, 32
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}

Options = list[tuple[list[int], list[int]]]


def random_model(model_type: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    kept = {key: SHAPE[key] for key in ("vocab_size", "bos_token_id", "eos_token_id")}
    config = AutoConfig.for_model(model_type, **({**kept, **GPT2} if model_type == "gpt2" else SHAPE))
    torch.manual_seed(3)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # far from uniform predictions
            parameter.mul_(6 if parameter.ndim == 2 else 1)
    return model


def items() -> list[Options]:
    """Shared questions, shared beginnings only, one-token answers, nothing shared, and options too long to be kept."""
    draw = random.Random(5)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(VOCABULARY) for _ in range(count)]

    question, blank, ending, long = tokens(9), tokens(6), tokens(5), tokens(40)
    return [
        [(question, tokens(n)) for n in (2, 5, 1, 4)],
        [([*blank, 24], ending), ([*blank, 25, 26], ending)],
        [(question, [answer]) for answer in (3, 4)],
        [(tokens(12), [answer]) for answer in (3, 4)],
        [(long, tokens(3)), (long, tokens(8))],
        [(tokens(1), tokens(6)), (tokens(2), tokens(2))],
    ]


def by_hand(model: Any, context: list[int], answer: list[int]) -> tuple[float, bool]:
    """One option in one forward pass, its question cut from the left."""
    inputs = torch.tensor([(context + answer)[:-1][-CONTEXT:]])
    with torch.no_grad():
        logs = torch.log_softmax(model(inputs).logits[0, -len(answer) :], dim=-1)
    greedy = logs.argmax(dim=-1).tolist() == answer
    return float(logs[torch.arange(len(answer)), torch.tensor(answer)].sum()), greedy


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("model_type", sorted(SHARING_MODELS))
def test_every_option_is_what_one_pass_by_hand_gives(model_type: str, share: bool) -> None:
    model = random_model(model_type)
    assert shares_rows(model)
    found = log_likelihoods(model, plan_rows(items(), CONTEXT, share=share), batch_size=3)
    assert len(found) == sum(map(len, items()))
    for (item, option), likelihood in found.items():
        nats, greedy = by_hand(model, *items()[item][option])
        assert likelihood.nats == pytest.approx(nats, rel=1e-5)  # rotary positions and norms are float32 everywhere
        assert likelihood.greedy == greedy


def test_the_greedy_answer_is_recognised() -> None:
    model = random_model("llama")
    question = [5, 6, 7]
    with torch.no_grad():
        best = int(model(torch.tensor([question])).logits[0, -1].argmax())
    options: Options = [(question, [best]), (question, [(best + 1) % VOCABULARY])]
    found = log_likelihoods(model, plan_rows([options], CONTEXT, share=True), batch_size=1)
    assert [found[0, 0].greedy, found[0, 1].greedy] == [True, False]


def test_figures_do_not_depend_on_the_other_items() -> None:
    model, every = random_model("llama"), items()
    together = log_likelihoods(model, plan_rows(every, CONTEXT, share=True), batch_size=len(every))
    for number, options in enumerate(every):
        alone = log_likelihoods(model, plan_rows([options], CONTEXT, share=True), batch_size=1)
        for option in range(len(options)):
            assert alone[0, option].nats == pytest.approx(together[number, option].nats, rel=1e-5)


def test_a_shared_question_is_encoded_once() -> None:
    question = list(range(20))
    options: Options = [(question, [30, 31]), (question, [32, 33, 34]), (question, [35])]
    rows = plan_rows([options], CONTEXT, share=True)
    assert [len(row.token_ids) for row in rows] == [20 + 1 + 2 + 0]
    assert sorted(len(row.token_ids) for row in plan_rows([options], CONTEXT, share=False)) == [20, 21, 22]
    assert rows[0].positions == (*range(20), 20, 20, 21)
    one_token: Options = [(question, [30]), (question, [31])]
    assert [row.token_ids for row in plan_rows([one_token], CONTEXT, share=True)] == [tuple(question)]


def test_rows_come_longest_first_and_little_is_shared_in_vain() -> None:
    lengths = [len(row.token_ids) for row in plan_rows(items(), CONTEXT, share=True)]
    assert lengths == sorted(lengths, reverse=True)
    apart: Options = [([1, 2], [3, 4, 5, 6, 7, 8]), ([1, 2], [9, 10, 11, 12, 13, 14])]
    assert len(plan_rows([apart], CONTEXT, share=True)) == 2


def test_other_models_get_a_row_per_option() -> None:
    model = random_model("llama")
    model.config.model_type = "mamba"
    assert not shares_rows(model)
