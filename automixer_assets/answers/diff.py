"""Why does one mixture weigh its groups otherwise than another? Mostly: the same mixture, before and after a snapshot.

One pass over the joint influence of both, a shard at a time. Documents are common to both mixtures where both pin the
same tokenised snapshot and neither excludes them; `attribution` says how the change of weights is split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from automixer_assets.answers.attribution import SIDES, Ingredients, PartSums, Side, no_sums
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.shards import Cut, MixtureShard, MixtureShards, group_cuts
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.manifest import Manifest, ManifestGroup
from automixer_assets.progress import Progress

TOLERANCE = 1e-9
SCORE_OPTIONS = ("proxy", "query", "curvature", "group_tasks", "normalisation", "scorer")


@dataclass
class Moves:
    """Documents and tokens that came or went, with the snapshots they are of."""

    n_documents: int = 0
    n_tokens: int = 0
    by_snapshot: dict[str, int] = field(default_factory=dict)
    """snapshot -> documents"""

    def add(self, snapshot: str, n_tokens: np.ndarray) -> None:
        if len(n_tokens):
            self.n_documents += len(n_tokens)
            self.n_tokens += int(n_tokens.sum())
            self.by_snapshot[snapshot] = self.by_snapshot.get(snapshot, 0) + len(n_tokens)


@dataclass
class GroupMoves:
    """Who entered and left a group: documents that the other mixture did not have, and those that it had."""

    entered_new: Moves = field(default_factory=Moves)
    entered_known: Moves = field(default_factory=Moves)
    left_gone: Moves = field(default_factory=Moves)
    left_known: Moves = field(default_factory=Moves)
    stayed: Moves = field(default_factory=Moves)


@dataclass(frozen=True)
class GroupChange:
    """One group in both mixtures; None on the side that does not have it.

    Attributes:
        parts: factor -> its part of `weight_after - weight_before`.
        remainder: what the parts leave of the change; rounding.
    """

    name: str
    before: ManifestGroup | None
    after: ManifestGroup | None
    parts: dict[str, float]
    remainder: float
    moves: GroupMoves

    @property
    def change(self) -> float:
        return _weight(self.after) - _weight(self.before)

    def as_json(self) -> dict[str, Any]:
        fields = ("weight", "threshold", "density", "alpha", "n_documents", "n_tokens", "exposure")
        return {
            "group": self.name,
            **{name: [getattr(side, name, None) for side in (self.before, self.after)] for name in fields},
            "change": self.change,
            "parts": self.parts,
            "remainder": self.remainder,
            "moves": asdict(self.moves),
        }


@dataclass(frozen=True)
class MixtureDiff:
    """`settings`: name -> (A's, B's) of every setting that differs. `notes` say what could not be told apart."""

    before: str
    after: str
    settings: dict[str, tuple[Any, Any]]
    groups: tuple[GroupChange, ...]
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether A and B are one mixture: their digests are the same."""
        return self.before == self.after

    def as_json(self) -> dict[str, Any]:
        return {
            "a": self.before,
            "b": self.after,
            "equal": self.equal,
            "settings": {name: list(values) for name, values in self.settings.items()},
            "groups": [group.as_json() for group in self.groups],
            "notes": list(self.notes),
        }


def diff(before: PinnedInputs, after: PinnedInputs, progress: Progress) -> MixtureDiff:
    """Compare two mixtures; reads no document where their digests are the same.

    Raises:
        AutomixerError: what one of them was made from is gone, or does not give its weights.
    """
    references = before.manifest.reference, after.manifest.reference
    if before.manifest.digest == after.manifest.digest:
        return MixtureDiff(references[0], references[0], {}, (), ())
    comparison = _Comparison({"A": before, "B": after})
    ingredients, moves = comparison.run(progress)
    _require_own_weights(ingredients, before.manifest, after.manifest)
    attribution = ingredients.attribution()
    groups = tuple(
        _change(name, before.manifest, after.manifest, attribution[name], moves[name]) for name in ingredients.groups
    )
    settings = changed_settings(before.manifest, after.manifest)
    return MixtureDiff(*references, settings, groups, tuple(comparison.notes(ingredients)))


def pass_length(before: PinnedInputs, after: PinnedInputs) -> int:
    """How many shards `diff` reads."""
    if before.manifest.digest == after.manifest.digest:
        return 0
    return len({*MixtureShards(before).places, *MixtureShards(after).places})


def changed_settings(before: Manifest, after: Manifest) -> dict[str, tuple[Any, Any]]:
    """Fields and options of two manifests that were set, not computed, and differ."""
    fields = ("mixture", "proxy", "recipe", "profile", "snapshots", "tokenizer_digest", "token_budget")
    found = {name: (getattr(before, name), getattr(after, name)) for name in (*fields, "exhaustion_policy")}
    for name in sorted({*before.options, *after.options}):
        found[name] = before.options.get(name), after.options.get(name)
    return {name: values for name, values in found.items() if values[0] != values[1]}


class _Comparison:
    """The pass over both mixtures."""

    def __init__(self, inputs: Mapping[Side, PinnedInputs]) -> None:
        self.inputs = inputs
        self.names = {side: [group.name for group in each.manifest.groups] for side, each in inputs.items()}
        self.groups = tuple(dict.fromkeys([*self.names["A"], *self.names["B"]]))
        n = len(self.groups)
        self.common = {side: no_sums(n) for side in SIDES}
        self.only = {(side, cut): no_sums(n) for side in SIDES for cut in SIDES}
        self.moves = {group: GroupMoves() for group in self.groups}
        self.scores_differ = self._made_otherwise()
        self.retokenised: set[str] = set()
        self.n_common = 0

    def run(self, progress: Progress) -> tuple[Ingredients, dict[str, GroupMoves]]:
        self.cuts = {side: group_cuts(each, MixtureShards(each)) for side, each in self.inputs.items()}
        for pair in self._pairs():
            self._add(pair)
            progress.advance(1)
        alphas = {side: np.zeros(len(self.groups)) for side in SIDES}
        for side, each in self.inputs.items():
            for group in each.manifest.groups:
                alphas[side][self.groups.index(group.name)] = group.alpha
        rules = {side: each.mixture.weight_rule for side, each in self.inputs.items()}
        groups_differ = set(self.names["A"]) != set(self.names["B"])
        found = Ingredients(self.groups, self.common, self.only, alphas, rules, self.scores_differ, groups_differ)
        return found, self.moves

    def _made_otherwise(self) -> bool:
        """Whether utilities are in another unit by the settings or queries that made them."""
        recipes = [each.recipe for each in self.inputs.values()]
        if any(getattr(recipes[0], option) != getattr(recipes[1], option) for option in SCORE_OPTIONS):
            return True
        queries = [
            {key: pin.data_version for key, pin in each.pins.items() if key[0].endswith("/influence_query")}
            for each in self.inputs.values()
        ]
        return any(queries[0][key] != queries[1][key] for key in queries[0].keys() & queries[1].keys())

    def _pairs(self) -> Iterator[dict[Side, MixtureShard]]:
        """Shards by place: of both sides where both pin the same tokenised snapshot, else each on its own."""
        shards = {side: {(s.snapshot, s.name): s for s in MixtureShards(each)} for side, each in self.inputs.items()}
        for place in sorted({*shards["A"], *shards["B"]}):
            pair: dict[Side, MixtureShard] = {side: shards[side].pop(place) for side in SIDES if place in shards[side]}
            if len(pair) == 1 or self._same_documents(place[0]):
                yield pair
                continue
            self.retokenised.add(place[0])
            for side, shard in pair.items():
                yield {side: shard}

    def _same_documents(self, snapshot: str) -> bool:
        pins = [each.pins["tokenized_corpus", snapshot].data_version for each in self.inputs.values()]
        return pins[0] == pins[1]

    def _add(self, pair: Mapping[Side, MixtureShard]) -> None:
        masks = {side: shard.is_candidate for side, shard in pair.items()}
        n = len(next(iter(masks.values())))
        none = np.zeros(n, dtype=bool)
        common = masks.get("A", none) & masks.get("B", none)
        self.n_common += int(common.sum())
        utilities = {side: self._utilities(shard) for side, shard in pair.items()}
        if common.any():
            self._note_scores(utilities, common)
            for side, shard in pair.items():
                self.common[side] += self._sums(shard, utilities[side], side, common)
        for side, shard in pair.items():
            only = masks[side] & ~common
            for cut in SIDES if only.any() else ():
                self.only[side, cut] += self._sums(shard, utilities[side], cut, only)
        self._move(pair, masks)

    def _utilities(self, shard: MixtureShard) -> np.ndarray:
        """[groups of both, n]; NaN for the other side's groups."""
        utilities = np.full((len(self.groups), len(shard.is_candidate)), np.nan)
        utilities[[self.groups.index(name) for name in shard.groups]] = shard.utilities
        return utilities

    def _note_scores(self, utilities: Mapping[Side, np.ndarray], common: np.ndarray) -> None:
        first, second = utilities["A"][:, common], utilities["B"][:, common]
        limit = TOLERANCE * np.maximum(np.abs(first), np.abs(second))
        self.scores_differ |= bool((np.abs(first - second) > limit).any())  # NaN compares as equal

    def _sums(self, shard: MixtureShard, utilities: np.ndarray, cut: Side, mask: np.ndarray) -> PartSums:
        """Sums over the masked documents that groups keep by that side's cuts, or by the only ones there are."""
        kept = np.zeros(utilities.shape, dtype=bool)
        for i, name in enumerate(self.groups):
            if not np.isnan(utilities[i]).all():
                cuts: dict[str, Cut] = {**self.cuts["A"], **self.cuts["B"], **self.cuts[cut]}
                kept[i] = cuts[name].keeps(shard, utilities[i]) & mask
        tokens, scores = shard.n_tokens.astype(np.float64), np.nan_to_num(utilities)
        total = np.where(kept, scores, 0).sum(axis=0)
        any_kept = kept.any(axis=0)
        return PartSums(
            kept @ tokens,
            (kept * tokens) @ scores.T,
            kept @ (total * tokens),
            float(total[any_kept].min(initial=np.inf)),
            float(total[any_kept].max(initial=-np.inf)),
        )

    def _move(self, pair: Mapping[Side, MixtureShard], masks: Mapping[Side, np.ndarray]) -> None:
        shard = next(iter(pair.values()))
        none = np.zeros(len(shard.is_candidate), dtype=bool)
        had, has = masks.get("A", none), masks.get("B", none)
        for group, moves in self.moves.items():
            kept = {side: each.kept(group) if group in each.groups else none for side, each in pair.items()}
            was, is_ = kept.get("A", none), kept.get("B", none)
            for moved, mask in (
                (moves.entered_new, is_ & ~had),
                (moves.entered_known, is_ & had & ~was),
                (moves.left_gone, was & ~has),
                (moves.left_known, was & has & ~is_),
                (moves.stayed, was & is_),
            ):
                moved.add(shard.snapshot, shard.n_tokens[mask])

    def notes(self, ingredients: Ingredients) -> list[str]:
        """What could not be told apart, and why."""
        notes = []
        if self.retokenised:
            names = ", ".join(sorted(self.retokenised))
            notes.append(f"{names}: the snapshot itself is another version, so all of its documents left and came anew")
        if not self.n_common:
            notes.append("the mixtures have no document in common")
        if ingredients.groups_differ:
            notes.append("other checkpoints: their scores, thresholds and alphas can only be taken over together")
        elif ingredients.scores_differ:
            notes.append("documents are scored otherwise: a threshold is taken over with its scores")
        return notes


def _require_own_weights(ingredients: Ingredients, before: Manifest, after: Manifest) -> None:
    for manifest, taken in ((before, frozenset()), (after, frozenset(ingredients.factors))):
        found = ingredients.weights(taken)
        for group in manifest.groups:
            if abs(found[group.name] - group.weight) > TOLERANCE:
                raise AutomixerError(
                    f"the pinned scores give {group.name} of {manifest.reference} the weight {found[group.name]:.9g}, "
                    f"not {group.weight:.9g}: run `automixer mixture verify` on it"
                )


def _change(name: str, before: Manifest, after: Manifest, parts: dict[str, float], moves: GroupMoves) -> GroupChange:
    sides = [next((each for each in manifest.groups if each.name == name), None) for manifest in (before, after)]
    remainder = _weight(sides[1]) - _weight(sides[0]) - sum(parts.values())
    return GroupChange(name, sides[0], sides[1], parts, remainder, moves)


def _weight(group: ManifestGroup | None) -> float:
    return 0.0 if group is None else group.weight
