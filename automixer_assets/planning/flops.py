"""Floating-point operations of the project's passes, from shapes alone.

Two operations per multiplication of a matrix product; what is not a matrix product (norms, softmax, rotary positions,
AdamW, sums over embedding rows) is not counted. Attention is counted as causal kernels do it: position t sees t + 1
positions. Each formula is compared with torch's own count of a real pass in the tests; torch counts attention as if
nothing were masked, which is what `Texts.causal` is for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from automixer_assets.influence.contraction import SPAN_TOKENS
from automixer_assets.settings import Architecture

BACKWARD_ATTENTION = 2.5
"""Attention backward over forward: five products for two, as fused kernels compute the scores again."""
EIGENDECOMPOSITION = 9
"""A symmetric eigendecomposition with vectors takes about 9 d^3 operations (Golub and Van Loan, section 8.3)."""


@dataclass(frozen=True)
class Shape:
    """What the counts need of a model."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool

    @staticmethod
    def of(architecture: Architecture, vocabulary: int) -> Shape:
        return Shape(
            architecture.hidden_size,
            architecture.intermediate_size,
            architecture.num_hidden_layers,
            architecture.num_attention_heads,
            architecture.num_key_value_heads,
            vocabulary,
            architecture.tie_word_embeddings,
        )

    @property
    def body_weights(self) -> int:
        """Entries of the matrices that every token is multiplied with, but the output layer's."""
        key_value = self.hidden // self.heads * self.key_value_heads
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * key_value
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head_weights(self) -> int:
        """Entries of the output layer's matrix, and of the embedding's."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        matrices = self.head_weights * (1 if self.tied else 2)
        return matrices + self.body_weights + (2 * self.layers + 1) * self.hidden

    @property
    def scored_matrices(self) -> int:
        """Embedding and output layer; tied, they are one."""
        return 1 if self.tied else 2


@dataclass(frozen=True)
class Texts:
    """Windows of tokens as a model runs them.

    Attributes:
        inputs: tokens that go in.
        windows: how many texts, after long ones are cut at the context.
        squares: sum over windows of their inputs squared.
        predicted: inputs whose next token counts in the loss; only they meet the output layer.
        causal: whether a position attends to itself and those before it, or to its whole window.
    """

    inputs: float
    windows: float
    squares: float
    predicted: float
    causal: bool = True

    @staticmethod
    def of(lengths: Iterable[float], predicted: float | None = None) -> Texts:
        """Windows of so many inputs each; every one predicts, unless fewer are said to."""
        sizes = list(lengths)
        total = sum(sizes)
        return Texts(total, len(sizes), sum(n * n for n in sizes), total if predicted is None else predicted)

    @property
    def pairs(self) -> float:
        """(position, position that it attends to), over all windows."""
        return (self.squares + self.inputs) / 2 if self.causal else self.squares

    def times(self, factor: float) -> Texts:
        return replace(
            self,
            inputs=self.inputs * factor,
            windows=self.windows * factor,
            squares=self.squares * factor,
            predicted=self.predicted * factor,
        )

    def plus(self, other: Texts) -> Texts:
        return replace(
            self,
            inputs=self.inputs + other.inputs,
            windows=self.windows + other.windows,
            squares=self.squares + other.squares,
            predicted=self.predicted + other.predicted,
        )


NOTHING = Texts(0, 0, 0, 0)


def body_forward(shape: Shape, texts: Texts) -> float:
    """2 N per input for N weights; attention 4 d per pair and layer: scores and values, 2 d each over all heads."""
    return 2 * shape.body_weights * texts.inputs + 4 * shape.layers * shape.hidden * texts.pairs


def body_backward_to_inputs(shape: Shape, texts: Texts) -> float:
    """Gradients of activations alone: one product per weight matrix, and attention's backward."""
    attention = 4 * shape.layers * shape.hidden * texts.pairs
    return 2 * shape.body_weights * texts.inputs + BACKWARD_ATTENTION * attention


def head_product(shape: Shape, rows: float) -> float:
    """2 V d per row: logits, their pull-back to hidden states, or one gradient or direction of that size."""
    return 2 * shape.head_weights * rows


def evaluation(shape: Shape, texts: Texts) -> float:
    """Forward over everything, logits where an answer is predicted."""
    return body_forward(shape, texts) + head_product(shape, texts.predicted)


def training(shape: Shape, texts: Texts, *, recomputed: bool = False) -> float:
    """Forward, gradients of activations and gradients of weights: 6 N per token, head included, plus attention.

    Every position gets logits, the last one of a sequence included. `recomputed`: each layer runs forward once more,
    up to its last product, which nothing needs again.
    """
    forward = body_forward(shape, texts)
    again = forward - 2 * shape.layers * shape.hidden * shape.intermediate * texts.inputs
    weights = 2 * shape.body_weights * texts.inputs
    head = 3 * head_product(shape, texts.inputs)
    return forward + (again if recomputed else 0) + body_backward_to_inputs(shape, texts) + weights + head


def gradients_to_inputs(shape: Shape, texts: Texts) -> float:
    """What every pass for influence shares: forward, logits, their pull-back, backward through activations."""
    head = 2 * head_product(shape, texts.predicted)
    return body_forward(shape, texts) + head + body_backward_to_inputs(shape, texts)


def scoring(shape: Shape, texts: Texts, directions: int) -> float:
    """One pass that scores texts against m directions at once (paper, section 4, step 4).

    The output layer's part is contracted by whichever way costs less, as `contraction.by_token` decides: every
    token's delta with every direction, 2 V d m per token; or every window's gradient, 2 V d per token, then m inner
    products of 2 V d per window. The embedding's part is m sums over rows, no matrix product.
    """
    return gradients_to_inputs(shape, texts) + _contraction(shape, texts, directions)


def validation_gradients(shape: Shape, texts: Texts) -> float:
    """The gradients v of benchmark items: a pass, and 2 V d per predicted token to add them up (step 1)."""
    return gradients_to_inputs(shape, texts) + head_product(shape, texts.predicted)


def datainf(shape: Shape, reference: Texts, directions: int) -> float:
    """Two passes over the reference sample (steps 2 and 3).

    Norms and inner products, then a weighted sum; both form each document's gradient, or go token by token, where
    that costs less. Without forming gradients norms are taken from Gram matrices, 2 (V + d) per pair of tokens. Tied
    matrices have a cross term: the output part at a document's own ids, at most 2 d per pair.
    """
    gradients = 2 * gradients_to_inputs(shape, reference)
    by_gram = _norms_by_gram(shape, reference, directions)
    norms = 2 * (shape.vocabulary + shape.hidden) * reference.squares
    blocks = head_product(shape, reference.predicted) + head_product(shape, reference.windows) * directions
    first = norms + _contraction(shape, reference, directions) if by_gram else blocks
    crossed = 2 * shape.hidden * reference.squares if shape.tied else 0
    return gradients + first + crossed + _contraction(shape, reference, directions)


def kfac(shape: Shape, reference: Texts, directions: int) -> float:
    """One pass over the reference sample, two moments of 2 d^2 per token, and solving for m directions.

    Untied, either matrix takes an eigendecomposition and 4 V d^2 per direction. Tied, rows whose token occurs in
    the sample are solved one by one, d^3 / 3 each and 2 d^2 per direction; all are counted, an upper bound.
    """
    moments = 2 * 2 * shape.hidden**2 * reference.predicted
    one = EIGENDECOMPOSITION * shape.hidden**3 + 4 * shape.head_weights * shape.hidden * directions
    rows = shape.vocabulary * (shape.hidden**3 / 3 + 2 * shape.hidden**2 * directions) if shape.tied else 0
    return gradients_to_inputs(shape, reference) + moments + one * shape.scored_matrices + rows


CURVATURES = {"identity": lambda shape, reference, directions: 0.0, "datainf": datainf, "kfac": kfac}
"""Operations that turn v into r, by the name of the curvature in the settings."""


def _contraction(shape: Shape, texts: Texts, directions: int) -> float:
    product = head_product(shape, texts.predicted)
    if (directions - 1) * texts.predicted <= SPAN_TOKENS * texts.windows:
        return product * directions
    return product + head_product(shape, texts.windows) * directions


def _norms_by_gram(shape: Shape, texts: Texts, directions: int) -> bool:
    """As `reference_products` decides, on texts as they are on average."""
    pairs = texts.squares / shape.hidden
    return (directions - 1) * texts.predicted + pairs <= SPAN_TOKENS * texts.windows
