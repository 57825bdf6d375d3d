"""Measures the passes over a model: training, evaluating, fitting a query, scoring, each through the code that runs it.

A shape that this machine cannot run in seconds is measured with fewer layers of the same width, then on shorter texts:
what matters to the speed of a matrix product are its sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from automixer_assets.planning import flops, memory
from automixer_assets.planning.clock import Clock
from automixer_assets.planning.constants import PassKind, PassSpeed
from automixer_assets.planning.flops import Shape, Texts
from automixer_assets.settings import Architecture, Training

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AFFORDABLE_SECONDS = 3.0
"""Of one round of one pass."""
BATCH_TOKENS = 4096
SPREAD = 0.9
"""Standard deviation of the logarithm of a web document's length."""
ITEM_TOKENS, ANSWER_TOKENS, OPTIONS = 60, 6, 4
"""Of a benchmark item, where none is materialised to look at: two sentences and short answers."""


Measure = Callable[["Probe", Any, Clock], tuple[float, float]]
"""Operations of a round, and its seconds."""


@dataclass(frozen=True)
class Probe:
    """What to measure: a model, how it is trained, and the texts that it will score."""

    architecture: Architecture
    vocabulary: int
    training: Training
    directions: int
    document_tokens: float
    evaluation_batch: int
    pass_tokens: int = BATCH_TOKENS
    """Of a pass that fits or scores."""
    scoring_half: str | None = None
    """The half-precision type that documents are scored in, if any."""

    @property
    def shape(self) -> Shape:
        return Shape.of(self.architecture, self.vocabulary)

    def shrunk(self, flops_per_second: float, room: int) -> Probe:
        """The same within a few seconds and half of the memory."""
        most = AFFORDABLE_SECONDS * flops_per_second
        probe = replace(self, training=_one_micro_batch(self.training))
        while probe._seconds(flops_per_second) > AFFORDABLE_SECONDS or probe._bytes() > room / 2:
            smaller = probe._smaller()
            if smaller is None:
                break
            probe = smaller
        tokens = probe.pass_tokens
        while tokens > 256 and flops.gradients_to_inputs(probe.shape, Texts.of([tokens])) > most:
            tokens //= 2
        return replace(probe, pass_tokens=tokens)

    def _seconds(self, flops_per_second: float) -> float:
        rows, length = self.training.batch_size, self.training.sequence_length
        return flops.training(self.shape, Texts.of([length] * rows)) / flops_per_second

    def _bytes(self) -> float:
        training = self.training
        tokens = training.batch_size * training.sequence_length
        recomputed = training.activation_checkpointing
        return memory.training(self.shape, tokens, training.precision, recomputed=recomputed)

    def _smaller(self) -> Probe | None:
        training, architecture = self.training, self.architecture
        if training.batch_size > 1:
            return replace(self, training=training.model_copy(update={"batch_size": training.batch_size // 2}))
        if architecture.num_hidden_layers > 1:
            layers = architecture.num_hidden_layers // 2
            return replace(self, architecture=architecture.model_copy(update={"num_hidden_layers": layers}))
        if training.sequence_length > 128:
            shorter = training.model_copy(update={"sequence_length": training.sequence_length // 2})
            return replace(self, training=shorter)
        return None


def _one_micro_batch(training: Training) -> Training:
    """One micro-batch is a step: gradients are summed over several at the same speed."""
    rows = min(training.batch_size, training.micro_batch_size or training.batch_size)
    return training.model_copy(update={"batch_size": rows, "micro_batch_size": None, "compile": False})


def matrix_product_speed(clock: Clock, device: Any) -> float:
    """Operations per second of one float32 product, large enough to keep the device busy: what to expect at most."""
    import torch

    side = 4096 if clock.accelerator else 512
    left = torch.randn(side, side, device=device)
    return 2 * side**3 / clock.median(lambda: left @ left)


def pass_speeds(probe: Probe, clock: Clock, device: Any, report: Callable[[str], None]) -> Iterator[PassSpeed]:
    """All kinds of pass at one shape."""
    from automixer_assets.proxy.model import build_model

    context = max(probe.training.sequence_length, 128)
    model: Any = build_model(probe.architecture, probe.vocabulary, context, seed=0).to(device)
    measures: dict[PassKind, Measure] = {
        "training": _training,
        "evaluation": _evaluation,
        "fitting": _fitting,
        "scoring": _scoring,
    }
    for kind, measure in measures.items():
        report(f"{kind}, {probe.shape.parameters / 1e6:.1f}M parameters")
        operations, seconds = measure(probe, model, clock)
        yield PassSpeed.at(probe.shape, kind, operations / seconds)


def load_seconds(probe: Probe, clock: Clock) -> float:
    """To open a checkpoint, read its numbers and digest it, as every artefact of a checkpoint does."""
    from automixer_assets.influence import model_digest
    from automixer_assets.proxy.model import build_model, load_model
    from automixer_assets.proxy.quiet import quiet

    with TemporaryDirectory() as name:
        folder = Path(name)
        with quiet():
            build_model(probe.architecture, probe.vocabulary, 128, seed=0).save_pretrained(folder)
        return clock.median(lambda: (load_model(folder), model_digest(folder)))


def _training(probe: Probe, model: PreTrainedModel, clock: Clock) -> tuple[float, float]:
    """Operations and seconds of a step: batch, gradients, clipping, AdamW."""
    import torch

    from automixer_assets.proxy.optimizer import accumulate_gradients, clip_gradients, make_optimizer
    from automixer_assets.proxy.world import alone

    training, world = probe.training, alone()
    rows, length = training.batch_size, training.sequence_length
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, probe.vocabulary, (rows, length)))
    model.train()
    optimizer = make_optimizer(model, training)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        accumulate_gradients(model, ids, training, world)
        clip_gradients(model, training.gradient_clip, world)
        optimizer.step()

    seconds = clock.median(step)
    optimizer.zero_grad(set_to_none=True)
    return flops.training(probe.shape, Texts.of([length] * rows)), seconds


def _evaluation(probe: Probe, model: PreTrainedModel, clock: Clock) -> tuple[float, float]:
    """Operations and seconds of a few batches of benchmark items whose options share a question."""
    from automixer_assets.benchmark.likelihood import log_likelihoods, plan_rows, shares_rows

    generator = np.random.default_rng(0)

    def ids(size: int) -> list[int]:
        return generator.integers(0, probe.vocabulary, size).tolist()

    items = []
    for _ in range(max(2, 2 * probe.evaluation_batch // OPTIONS)):
        question = ids(int(generator.integers(ITEM_TOKENS // 2, ITEM_TOKENS * 3 // 2)))
        items.append([(question, ids(ANSWER_TOKENS)) for _ in range(OPTIONS)])
    rows = plan_rows(items, probe.training.sequence_length, share=shares_rows(model))
    answers = sum(len(row.targets) for row in rows)
    texts = Texts.of([len(row.token_ids) for row in rows], predicted=answers)
    return flops.evaluation(probe.shape, texts), clock.median(
        lambda: log_likelihoods(model.eval(), rows, probe.evaluation_batch)
    )


def _fitting(probe: Probe, model: PreTrainedModel, clock: Clock) -> tuple[float, float]:
    """Operations and seconds of DataInf's two passes, over a few reference documents and an item per direction."""
    from automixer_assets.influence import fit_query

    items, documents = _items(probe), _documents(probe)
    seconds = clock.median(lambda: fit_query(model, items, documents, batch_tokens=BATCH_TOKENS))
    of_items = Texts.of([ITEM_TOKENS - 1] * probe.directions)
    lengths = Texts.of([len(document) - 1 for document in documents])
    operations = flops.validation_gradients(probe.shape, of_items)
    return operations + flops.datainf(probe.shape, lengths, probe.directions), seconds


def _scoring(probe: Probe, model: PreTrainedModel, clock: Clock) -> tuple[float, float]:
    """Operations and seconds of a batch of documents against all directions."""
    from automixer_assets.influence import fit_query, score_documents

    query = fit_query(model, _items(probe), [], curvature="identity", batch_tokens=BATCH_TOKENS)
    documents = _documents(probe)
    half = probe.scoring_half
    seconds = clock.median(lambda: score_documents(model, documents, query, batch_tokens=BATCH_TOKENS, dtype=half))
    lengths = Texts.of([len(document) - 1 for document in documents])
    return flops.scoring(probe.shape, lengths, probe.directions), seconds


def _items(probe: Probe) -> dict[str, list[tuple[np.ndarray, list[bool]]]]:
    generator = np.random.default_rng(1)
    return {
        f"task_{k}": [(generator.integers(0, probe.vocabulary, ITEM_TOKENS), [True] * ITEM_TOKENS)]
        for k in range(probe.directions)
    }


def _documents(probe: Probe) -> list[np.ndarray]:
    """Documents of about `pass_tokens` together, lengths spread as on the web, at most the context."""
    generator = np.random.default_rng(2)
    documents: list[np.ndarray] = []
    longest = probe.training.sequence_length
    while sum(map(len, documents)) < probe.pass_tokens:
        median = math.log(probe.document_tokens) - SPREAD**2 / 2
        length = int(np.clip(generator.lognormal(median, SPREAD), 8, longest))
        documents.append((generator.zipf(1.3, length) - 1) % probe.vocabulary)
    return documents
