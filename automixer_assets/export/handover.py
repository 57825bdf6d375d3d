"""`MIXTURE.md`: what someone who has never seen this project needs to start training from an export."""

from __future__ import annotations

from pathlib import Path

from automixer_assets.export.format import ExportGroup, ExportPlan, Format
from automixer_assets.files import write_atomically

SHEET = "MIXTURE.md"
UNITS = {
    "tokens": "tokens: the trainer draws tokens, so a weight is a share of tokens.",
    "sequences": "sequences of one length: the trainer draws packed sequences, so a weight is a share of tokens.",
    "documents": "documents: the trainer draws whole documents, so each weight is the share of tokens divided by the "
    "group's mean document length, normalised. Do not use the shares of tokens in their place.",
}
SHORT_DIGEST = 12


def write_handover(plan: ExportPlan, format: Format, exhaustion: str, out: Path) -> None:
    """Write the sheet beside the files; the same export always gives the same sheet."""
    manifest = plan.manifest
    parts = [
        f"# {manifest.mixture} for {format.title}",
        f"Mixture `{manifest.mixture}@{manifest.digest[:SHORT_DIGEST]}`: which documents to pretrain on, in which "
        f"groups, at which shares of tokens, chosen by AutoMixer (recipe {manifest.recipe}, profile "
        f"{manifest.profile}) from the crawl snapshots {', '.join(manifest.snapshots)}.",
        f"## Start training\n{_run(plan)}\n\n{format.start(plan)}",
        f"## Groups\n{_table(plan)}",
        f"Weights count {UNITS[format.unit]}",
        f"`run tokens` is what a run of {plan.run_tokens:,} tokens takes from the group, `passes` how often it then "
        "reads each of the group's documents on average.",
        f"## When a group runs out\nThe mixture asks for `{manifest.exhaustion_policy}`. {exhaustion}",
        *_schedule(plan),
        f"## Tokens\n{_tokens(plan)}",
        "## Good to know\n" + "\n".join(f"- {note}" for note in plan.notes),
        f"## Where it comes from\n{_origin(plan)}",
    ]
    write_atomically(out / SHEET, ("\n\n".join(parts) + "\n").encode())


def _run(plan: ExportPlan) -> str:
    return (
        f"Train on {plan.run_tokens:,} tokens in all. Paths below begin with `{plan.location}`; after moving this "
        "folder, put its new place there, in this sheet's commands and in the configuration files alike. Documents lie "
        "in the corpus's order: leave the trainer's shuffling on."
    )


def _table(plan: ExportPlan) -> str:
    head = ["group", "share of tokens", "weight", "documents", "tokens", "tokens per document", "run tokens", "passes"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *[_row(group) for group in plan.groups]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(group: ExportGroup) -> list[str]:
    return [
        group.label,
        f"{group.share:.6f}",
        f"{group.weight:.6f}",
        f"{group.documents:,}",
        f"{group.tokens:,}",
        f"{group.mean_tokens:,.1f}",
        f"{group.run_tokens:,}",
        f"{group.passes:.3f}",
    ]


def _schedule(plan: ExportPlan) -> list[str]:
    if len(plan.phases) == 1:
        return []
    labels = {group.name: group.label for group in plan.groups}
    lines = [
        f"- from token {phase.from_token:,}: "
        + ", ".join(f"{labels[name]} {weight:.4f}" for name, weight in phase.weights.items() if weight > 0)
        for phase in plan.phases
    ]
    return ["## Shares over time\nWhat the mixture itself plans, in shares of tokens:\n" + "\n".join(lines)]


def _tokens(plan: ExportPlan) -> str:
    encoding = plan.encoding
    whose = "the tokenizer given with `--tokenizer`" if plan.retokenized else "the mixture's tokenizer"
    return (
        f"Counted with {whose} (sha256 of its tokenizer.json `{encoding.tokenizer_digest}`), whose vocabulary has "
        f"{encoding.vocab_size:,} ids; every document ends with id {encoding.end_of_document}. "
        "Train with this very tokenizer, or export again with `--tokenizer`: weights depend on it."
    )


def _origin(plan: ExportPlan) -> str:
    reference = plan.manifest.reference
    return (
        f"Digest of the mixture: `{plan.manifest.digest}`. `export.json` beside this sheet has the sha256 of every "
        "file; `automixer mixture export` with the same options compares them again. Every input, down to the source "
        "files, and how the groups were made:\n"
        f"```\nautomixer lineage {reference}\nautomixer mixture show {reference}\n```"
    )
