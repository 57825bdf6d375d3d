"""From a mixture's settings to its allocation: caps by group, limits on documents, and samples of what is too large."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.budget import Allocation, Constraint, allocate, document_constraints, group_cap
from automixer_assets.mixture.exposure import document_parameters
from automixer_assets.mixture.groups import Selection, selection_parameters
from automixer_assets.mixture.manifest import Subsample
from automixer_assets.mixture.sql import open_database
from automixer_assets.mixture.subsample import find_subsample, read_rank_scale
from automixer_assets.mixture.weights import GroupTable
from automixer_assets.settings import Mixture


def allocate_budget(
    mixture: Mixture,
    tables: Sequence[GroupTable],
    weights: Sequence[float],
    selections: Sequence[Selection],
    snapshots: Mapping[str, TokenizedSnapshot],
) -> Allocation:
    """The budget of a mixture, shared among its groups under its caps.

    Args:
        weights: in the order of `tables`.
        selections: the selection files of all groups.
        snapshots: snapshot -> its tokenised folder; only read where a limit on documents asks for their contents.

    Raises:
        AutomixerError: a cap of a group that does not exist, or caps that leave no token at all.
    """
    group_tokens = {table.name: table.n_tokens for table in tables}
    constraints: list[Constraint] = []
    if mixture.max_document_epochs is not None:
        copies = shared_contents(selections, snapshots)
        constraints = document_constraints(copies, group_tokens, mixture.max_document_epochs)
    allocation = allocate(
        weights={table.name: weight for table, weight in zip(tables, weights, strict=True)},
        group_tokens=group_tokens,
        token_budget=mixture.token_budget,
        exhaustion_policy=mixture.exhaustion_policy,
        max_epochs=mixture.max_epochs,
        caps=_own_caps(mixture, group_tokens),
        constraints=constraints,
    )
    if not any(allocation.tokens.values()):
        stops = "; ".join(f"{group} by {reason}" for group, reason in allocation.stopped_by.items())
        raise AutomixerError(f"the mixture's caps leave no token of any group ({stops}); raise them")
    return allocation


def shared_contents(
    selections: Sequence[Selection], snapshots: Mapping[str, TokenizedSnapshot]
) -> list[dict[str, int]]:
    """Every different case of group -> copies of one content."""
    parameters = {**selection_parameters(selections), **document_parameters(selections, snapshots)}
    with open_database() as database:
        cases = database.table("shared_contents", parameters)["copies"].to_pylist()
    return [{each["group"]: each["n_copies"] for each in case} for case in cases]


def find_subsamples(
    mixture: Mixture, grouped: Path, tables: Sequence[GroupTable], selections: Sequence[Selection], tokens: Allocation
) -> dict[str, Subsample | None]:
    """Group -> the sample that is read of it, for groups that give fewer tokens than they have."""
    over = [table.name for table in tables if 0 < tokens.tokens[table.name] < table.n_tokens]
    if mixture.over_budget != "utility" or not over:
        return {}
    scale = read_rank_scale(grouped)
    return {
        group: find_subsample(
            [each for each in selections if each.group == group],
            group=group,
            n_tokens=tokens.tokens[group],
            seed=mixture.sample_seed,
            scale=scale,
        )
        for group in over
    }


def _own_caps(mixture: Mixture, group_tokens: Mapping[str, int]) -> dict[str, Constraint]:
    for group in mixture.group_caps:
        if group not in group_tokens:
            close = difflib.get_close_matches(group, group_tokens, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise AutomixerError(
                f"`group_caps` names {group!r}, which is no group of the mixture{hint} "
                f"(its groups: {', '.join(group_tokens)})"
            )
    return {
        group: group_cap(group, group_tokens[group], epochs=cap.epochs, tokens=cap.tokens)
        for group, cap in mixture.group_caps.items()
    }
