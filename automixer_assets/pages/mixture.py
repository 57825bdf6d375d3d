"""Pages of the mixture assets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from automixer_assets import metadata
from automixer_assets.benchmark.redrawn import alpha_intervals
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata
from automixer_assets.mixture.exposure import ExposureSummary, summarise_exposure
from automixer_assets.mixture.groups import UTILITY_PREFIX, utility_column
from automixer_assets.mixture.manifest import Manifest, ManifestGroup, load_manifest
from automixer_assets.mixture.normalisation import read_normalisation
from automixer_assets.pages.uncertainty import runners_up
from automixer_assets.settings import differing_options

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEARLY_UNIFORM = 1.1
"""Below this ratio of largest to smallest weight, the weights hardly differ (DESIGN: weights)."""
ZERO = {
    "none": (0.0, "helpful (utility > 0)"),
    "z": (0.0, "above the reference sample's mean"),
    "median_mad": (0.0, "above the reference sample's median"),
    "rank": (0.5, "above the reference sample's median"),
    "task_rank": (0.5, "above the reference sample's median, averaged over tasks"),
}
"""Per normalisation the joint utility that divides documents, and what those above it are."""


def show_selected_checkpoints(artifact: Artifact) -> Metadata:
    selected = pl.read_parquet(artifact.path / "selected.parquet")
    assignments = pl.read_parquet(artifact.path / "assignments.parquet")
    redrawn = alpha_intervals(pl.read_parquet(artifact.path / "redrawn.parquet"))
    flagged = assignments.filter(pl.col("above_chance").not_())["task"].to_list()

    def draw(axes: Axes) -> None:
        axes.bar(selected["checkpoint"].to_list(), selected["alpha"].to_list(), color=metadata.PALETTE[0])
        known = redrawn.filter(pl.col("alpha").is_not_null())
        axes.vlines(
            known["checkpoint"].to_list(), known["alpha_low"].to_list(), known["alpha_high"].to_list(), color="#333333"
        )
        axes.set_ylabel("alpha (blending factor)")
        axes.tick_params(axis="x", labelrotation=15)

    return {
        "checkpoints": selected.height,
        "selected checkpoints": metadata.table(selected),
        "best step per task": metadata.table(assignments),
        "how often would another checkpoint have won, had other items been drawn": metadata.table(
            runners_up(pl.read_parquet(artifact.path / "winners.parquet"))
        ),
        "checkpoints that other items would have selected, and 95 % of their alphas": metadata.table(redrawn),
        "never above chance + 2 stderr": ", ".join(flagged) or "none",
        "alpha": metadata.plot(draw, height=2.6),
    }


def show_joint_influence(artifact: Artifact, normalisation: str) -> Metadata:
    files = str(artifact.path / "shard-*.parquet")
    scan = pl.scan_parquet(files)
    groups = [column for column in scan.collect_schema().names() if column.startswith(UTILITY_PREFIX)]
    # Normalised utilities are centred on the reference sample, so zero no longer means "neither helps nor harms".
    zero, positive = ZERO[normalisation]
    helpful_share = (pl.col("joint_utility") > zero).mean().alias("helpful")
    n_documents, helpful = scan.select(pl.len(), helpful_share).collect().row(0)
    joint = metadata.sample(files, [*groups, "joint_utility"])
    summary = pl.DataFrame(
        [
            {
                "group": group.removeprefix(UTILITY_PREFIX),
                "sd of utility": joint[group].std(),
                "rank correlation with the joint utility": joint.select(
                    pl.corr(group, "joint_utility", method="spearman")
                ).item(),
            }
            for group in groups
        ]
    )
    return {
        "dagster/row_count": n_documents,
        "joint utility (= - I_joint)": metadata.histogram(
            joint["joint_utility"], "joint utility", mark=zero, note=f"to the right: {positive}"
        ),
        f"share of documents that are {positive}": helpful,
        "groups": metadata.table(summary),
        "normalisation constants": metadata.table(_constants(artifact)),
        "SQL": metadata.sql(
            ["group_utility", "normalisation_constants", "normalisation_ranks", "ranked_utility", "joint_influence"]
        ),
        "dagster/column_schema": metadata.columns(
            [
                ("doc_id", "string", "the source's id"),
                ("n_tokens", "int64", "ids of the document"),
                *[(group, "double", "utility for that group") for group in groups],
                ("joint_utility", "double", "sum over groups of alpha x utility"),
                ("joint_influence", "double", "- joint_utility: the paper's I_joint"),
            ]
        ),
    }


def _constants(artifact: Artifact) -> pl.DataFrame:
    """What scales each group's utilities; empty where nothing does."""
    return pl.DataFrame(
        [
            {"group": name, "center": each.center, "scale": each.scale, "reference utilities": len(each.knots)}
            for group, whole in read_normalisation(artifact.path).items()
            for name, each in {group: whole, **whole.tasks}.items()
            if not each.tasks
        ]
    )


def show_grouped_shards(artifact: Artifact, joint: dict[str, Artifact]) -> Metadata:
    groups = pl.read_parquet(artifact.path / "groups.parquet")
    overlap = pl.read_parquet(artifact.path / "overlap.parquet")
    exclusions = pl.read_parquet(artifact.path / "exclusions.parquet")
    files = [path for item in joint.values() for path in sorted(item.by_file.glob("shard-*.parquet"))]
    utilities = metadata.sample(files, [utility_column(group) for group in groups["group"]])

    def draw(axes: Axes) -> None:
        for index, (group, threshold) in enumerate(groups.select("group", "threshold").iter_rows()):
            values = utilities[utility_column(group)]
            shifted = (values - threshold) / (metadata.number(values.std()) or 1.0)
            color = metadata.PALETTE[index % len(metadata.PALETTE)]
            axes.hist(shifted.to_numpy(), bins=80, range=(-3, 3), histtype="step", color=color, label=group)
        axes.axvline(0, color="#333333", linewidth=1, label="threshold: kept to the right")
        axes.set_xlabel("(utility - threshold) / sd, per group")
        axes.set_ylabel("documents")
        axes.legend(fontsize=7)

    shares = groups.with_columns(
        (pl.col("n_documents") / pl.col("n_candidates")).alias("share of documents"),
        (pl.col("n_tokens") / pl.col("candidate_tokens")).alias("share of tokens"),
    )
    return {
        "dagster/row_count": int(groups["n_documents"].sum()),
        "groups": metadata.table(shares),
        "overlap: share of a group's documents (rows) that the other has too": metadata.table(
            overlap.pivot("other", index="group", values="share")
        ),
        "excluded before groups were formed": metadata.table(exclusions),
        "utility around the threshold": metadata.plot(draw),
        "by range of joint utility (the paper's Table 4)": metadata.table(
            pl.read_parquet(artifact.path / "percentile_ranges.parquet")
        ),
        "SQL": metadata.sql(
            [
                "utility_histogram",
                "bucket_utilities",
                "utility_at_rank",
                "tied_rows",
                "tied_documents",
                "last_tied_documents",
                "kept_utility",
                "group_memberships",
                "group_overlap",
                "percentile_ranges",
                "percentile_statistics",
            ]
        ),
    }


def show_weight_manifest(artifact: Artifact) -> Metadata:
    manifest = load_manifest(artifact.path / "manifest.json")
    ledger = summarise_exposure(artifact.path / "exposure.parquet")
    differing = differing_options(manifest.profile, manifest.options)
    return {
        "groups": metadata.table(_with_bars(manifest_groups(manifest))),
        "budget: what each group gives": metadata.table(manifest_budget(manifest)),
        "weights": metadata.plot(lambda axes: _draw_weights(axes, manifest)),
        "mixture": manifest.reference,
        "how sure": doubt_note(manifest),
        "profile": manifest.profile,
        "options that differ": ", ".join(f"{name}={value}" for name, value in differing.items()) or "none",
        "token budget": manifest.token_budget,
        "shortfall": manifest.shortfall,
        "does the budget repeat documents": repetition_note(manifest),
        "snapshots": ", ".join(manifest.snapshots),
        "weight contrast (largest / smallest)": contrast_note(manifest),
        "highest exposure of a text": ledger.max_exposures,
        "texts in several groups": ledger.n_in_several_groups,
        "texts with copies in a group": ledger.n_with_copies,
        "texts in several snapshots": ledger.n_in_several_snapshots,
        "texts that samples leave out": ledger.n_unread,
        "exposure: how often texts are expected to be read": metadata.table(exposure_histogram(ledger)),
        "exposure: the most read": metadata.table(pl.read_parquet(artifact.path / "most_read.parquet")),
        "SQL": metadata.sql(
            ["group_density", "appendix_b_products", "density_buckets", "sample_keys", "exposure", "most_read"]
        ),
    }


def manifest_budget(manifest: Manifest) -> pl.DataFrame:
    """How many tokens each group gives, of which documents, and what stops it."""
    return pl.DataFrame(
        [
            {
                "group": group.name,
                "tokens": group.n_tokens,
                "gives": group.allocated_tokens,
                "exposure": group.exposure,
                "documents that are read": f"{group.read_documents:,} of {group.n_documents:,}",
                "times each": group.passes,
                "stops at": group.stopped_by or "–",
            }
            for group in manifest.groups
        ]
    )


def exposure_histogram(ledger: ExposureSummary) -> pl.DataFrame:
    """Texts by how often they are expected to be read."""
    return pl.DataFrame([vars(each) for each in ledger.histogram])


def manifest_groups(manifest: Manifest) -> pl.DataFrame:
    """The groups of a manifest as a person compares them."""
    return pl.DataFrame(
        [
            {
                "group": group.name,
                "weight": group.weight,
                "95 %": interval_note(group),
                "exposure": group.exposure,
                "documents": group.n_documents,
                "tokens": group.n_tokens,
                "density": group.density,
                "alpha": group.alpha,
                "weight (App. B)": group.weight_appendix_b,
                "tasks": ", ".join(group.tasks) or "–",
            }
            for group in manifest.groups
        ]
    )


def interval_note(group: ManifestGroup) -> str:
    """The weight's interval in words, with a warning where it spans a factor of two."""
    if group.weight_interval is None:
        return "undefined (warning: some resamples have no weights)"
    low, high = group.weight_interval
    return f"{low:.3f} to {high:.3f}" + (" (warning: a factor of two or more)" if group.doubtful else "")


def _with_bars(groups: pl.DataFrame) -> pl.DataFrame:
    bars = groups["weight"].map_elements(metadata.bar, pl.String).alias("share of tokens")
    return groups.insert_column(2, bars)


def contrast_note(manifest: Manifest) -> str:
    """The ratio of largest to smallest weight, with a warning where weighting hardly does anything."""
    if manifest.weight_contrast is None:
        return "unbounded: a group has weight 0"
    if len(manifest.groups) == 1:
        return f"{manifest.weight_contrast:.3f} (one group: nothing to weigh)"
    nearly = manifest.weight_contrast < NEARLY_UNIFORM
    return f"{manifest.weight_contrast:.3f}" + (" (warning: the weights are nearly uniform)" if nearly else "")


def repetition_note(manifest: Manifest) -> str:
    """Which groups the budget reads more than once, how often, and what caps or refuses that."""
    repeated = sorted((group for group in manifest.groups if group.exposure > 1), key=lambda group: -group.exposure)
    if not repeated:
        return "no group is read more than once"
    names = ", ".join(f"{group.name} {group.exposure:.3g} times" for group in repeated)
    return (
        f"warning: the budget of {manifest.token_budget:,} tokens is more than some groups hold, so they are repeated: "
        f"{names}; `max_epochs` stops them, `limits.max_group_epochs: 1` refuses such a mixture"
    )


def doubt_note(manifest: Manifest) -> str:
    """Which weights could as well be half or twice as large."""
    doubtful = [group.name for group in manifest.groups if group.doubtful]
    asked = f"see `automixer mixture show {manifest.mixture} --uncertainty`"
    if not doubtful:
        return f"no weight's interval spans a factor of two, {asked}"
    return f"doubtful weights (interval of a factor of two or more): {', '.join(doubtful)}, {asked}"


def _draw_weights(axes: Axes, manifest: Manifest) -> None:
    positions = range(len(manifest.groups))
    axes.bar(
        [x - 0.2 for x in positions],
        [g.weight for g in manifest.groups],
        0.38,
        color=metadata.PALETTE[0],
        label="weight",
    )
    for x, group in zip(positions, manifest.groups, strict=True):
        if group.weight_interval is not None:
            axes.vlines(x - 0.2, *group.weight_interval, color="#333333")
    axes.bar(
        [x + 0.2 for x in positions],
        [g.weight_appendix_b for g in manifest.groups],
        0.38,
        color="#b9c4d6",
        label="by Appendix B",
    )
    axes.set_xticks(list(positions), [group.name for group in manifest.groups], rotation=15, fontsize=8)
    axes.set_ylabel("share of tokens")
    axes.legend(fontsize=8)
