"""`automixer mixture`: what was made, why, and whether it is what it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automixer_assets.commands import Config, Json, errors, open_automixer, open_instance, out

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import RenderableType

    from automixer_assets.progress import Progress

app = typer.Typer(no_args_is_help=True, help="Ask about mixtures.")


@app.command("list")
def mixture_list(json_: Json = False, config: Config = None) -> None:
    """The mixtures that were made, latest first."""
    from automixer_assets.catalogue import list_mixtures
    from automixer_assets.summary import mixtures_table

    automixer = open_automixer(config, None)
    with open_instance() as instance:
        rows = list_mixtures(instance, automixer.lake())
    out.print_json(json.dumps(rows)) if json_ else out.print(mixtures_table(rows))


@app.command("show")
def mixture_show(
    name: Annotated[str, typer.Argument(help="NAME or NAME@digest")],
    why: Annotated[
        bool, typer.Option("--why", help="what sets each group apart from the corpus, and some documents")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="intervals of the weights, by what is drawn again")
    ] = False,
    json_: Json = False,
    config: Config = None,
) -> None:
    """The weight manifest of a mixture: groups, weights, exposure; or why these documents, or how sure the weights."""
    from automixer_assets.catalogue import find_characteristics, find_mixture, find_selected, find_uncertainty
    from automixer_assets.errors import ConfigurationError
    from automixer_assets.mixture.manifest import load_manifest
    from automixer_assets.pages.characteristics import characteristics_json
    from automixer_assets.pages.uncertainty import uncertainty_json
    from automixer_assets.summary import characteristics_panel, exposure_tables, manifest_tables, uncertainty_panel

    if why and uncertainty:
        raise ConfigurationError("--why and --uncertainty answer two questions: ask one at a time")
    automixer = open_automixer(config, None)
    lake = automixer.lake()
    with open_instance() as instance:
        made = find_mixture(instance, lake, name)
        manifest = load_manifest(made / "manifest.json")
        reasons = find_characteristics(instance, lake, manifest) if why else None
        doubts = find_uncertainty(instance, lake, manifest) if uncertainty else None
    document, parts = manifest.model_dump(mode="json"), [*manifest_tables(manifest), *exposure_tables(made)]
    if reasons is not None:
        document, parts = characteristics_json(reasons), characteristics_panel(manifest, reasons)
    if doubts is not None:
        selected = find_selected(lake, manifest)
        document, parts = uncertainty_json(doubts, selected), uncertainty_panel(manifest, doubts, selected)
    if json_:
        named = {"mixture": manifest.mixture, "digest": manifest.digest} if why or uncertainty else {}
        sys.stdout.write(json.dumps({**named, **document}, indent=1) + "\n")
        return
    for part in parts:
        out.print(part)


@app.command("export")
def mixture_export(
    name: Annotated[str, typer.Argument(help="NAME or NAME@digest")],
    format_: Annotated[str, typer.Option("--format", help="the trainer's format; see docs/exports.md")],
    out_folder: Annotated[Path, typer.Option("--out", help="a folder: new, empty, or a killed export to go on with")],
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="the trainer's tokenizer.json, where it is not the mixture's")
    ] = None,
    location: Annotated[
        Path | None, typer.Option("--location", help="where the trainer will find the folder; default: --out")
    ] = None,
    sequence_length: Annotated[
        int, typer.Option("--sequence-length", min=2, help="tokens per training sequence")
    ] = 2048,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="sequences per training step")] = 256,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Write a mixture's documents, weights and a hand-over sheet as a trainer reads them."""
    from automixer_assets.catalogue import find_manifest, pinned_snapshots
    from automixer_assets.export import export_mixture, n_documents
    from automixer_assets.progress import progress
    from automixer_assets.summary import export_panel

    automixer = open_automixer(config, None)
    lake = automixer.lake()
    with open_instance() as instance:
        manifest = find_manifest(instance, lake, name)
    label = f"{manifest.mixture} to {format_}"
    with progress(label, n_documents(manifest), "documents", lambda line: errors.print(line)) as bar:
        report = export_mixture(
            manifest,
            lake.root_with(manifest.selection_uris),
            pinned_snapshots(lake, manifest),
            format_,
            out_folder,
            corpus=automixer.resolve(automixer.settings().corpus.directory),
            tokenizer=tokenizer,
            location=location,
            sequence_length=sequence_length,
            batch_size=batch_size,
            on_progress=lambda documents, earlier: bar.skip(documents) if earlier else bar.advance(documents),
        )
    if json_:
        sys.stdout.write(json.dumps(report.document, indent=1) + "\n")
        return
    out.print(export_panel(report))


@app.command("verify")
def mixture_verify(
    name: Annotated[str, typer.Argument(help="NAME, NAME@digest, or a manifest.json, wherever it was copied")],
    rescore: Annotated[
        int, typer.Option("--rescore", min=0, metavar="N", help="score N documents again at the pinned checkpoints")
    ] = 0,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Recompute a mixture from its pinned inputs and say which number differs; exit code 1 if one does."""
    from automixer_assets.answers.find import find_inputs
    from automixer_assets.answers.tables import verification_tables
    from automixer_assets.answers.verify import verify
    from automixer_assets.progress import progress

    automixer = open_automixer(config, None)
    with open_instance() as instance:
        inputs = find_inputs(instance, automixer.lake(), name)

    def report(label: str, total: float, unit: str) -> AbstractContextManager[Progress]:
        return progress(label, total, unit, errors.print)

    found = verify(inputs, report, n_rescored=rescore)
    _show(found.as_json(), verification_tables(found), json_)
    if not found.passed:
        raise typer.Exit(1)


@app.command("diff")
def mixture_diff(
    before: Annotated[str, typer.Argument(metavar="A", help="NAME, NAME@digest or a manifest.json")],
    after: Annotated[str, typer.Argument(metavar="B", help="the same, of the later one")],
    json_: Json = False,
    config: Config = None,
) -> None:
    """Say why B weighs its groups otherwise than A: new documents, thresholds, alpha, scores."""
    from automixer_assets.answers.diff import diff, pass_length
    from automixer_assets.answers.find import find_inputs
    from automixer_assets.answers.tables import diff_tables
    from automixer_assets.progress import progress

    automixer = open_automixer(config, None)
    with open_instance() as instance:
        sides = [find_inputs(instance, automixer.lake(), name) for name in (before, after)]
    with progress("comparing", pass_length(*sides), "shards", errors.print) as watched:
        found = diff(sides[0], sides[1], watched)
    _show(found.as_json(), diff_tables(found), json_)


@app.command("overlap")
def mixture_overlap(
    first: Annotated[str, typer.Argument(metavar="A", help="NAME, NAME@digest or a manifest.json")],
    second: Annotated[str, typer.Argument(metavar="B", help="the same, of the other")],
    top_share: Annotated[
        float | None, typer.Option("--top-share", min=0, max=1, help="of documents; default: A's own")
    ] = None,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Say how far two mixtures, of two proxies or recipes, want the same documents: top documents and ranks."""
    from automixer_assets.answers.find import find_inputs
    from automixer_assets.answers.overlap import overlap
    from automixer_assets.answers.tables import overlap_tables

    automixer = open_automixer(config, None)
    with open_instance() as instance:
        sides = [find_inputs(instance, automixer.lake(), name) for name in (first, second)]
    found = overlap(sides[0], sides[1], top_share)
    _show(found.as_json(), overlap_tables(found), json_)


@app.command("explain")
def mixture_explain(
    name: Annotated[str, typer.Argument(help="NAME, NAME@digest or a manifest.json")],
    doc_id: Annotated[str, typer.Argument(help="the source's id of a document")],
    full: Annotated[bool, typer.Option("--full", help="the whole text, not its beginning")] = False,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Say why a document is in a mixture or not: scores, groups, thresholds, exposure, copies, flags."""
    from automixer_assets.answers.explain import explain
    from automixer_assets.answers.find import find_inputs
    from automixer_assets.answers.tables import explanation_tables
    from automixer_assets.proxy.tokenizer import load_tokenizer

    automixer = open_automixer(config, None)
    with open_instance() as instance:
        inputs = find_inputs(instance, automixer.lake(), name)

    def decode(ids: Sequence[int]) -> str:
        tokenizer = load_tokenizer(inputs.folder("tokenizer"))
        return tokenizer.batch_decode([list(ids)], clean_up_tokenization_spaces=False)[0]

    found = explain(inputs, doc_id, decode, full=full)
    _show([each.as_json() for each in found], [part for each in found for part in explanation_tables(each)], json_)


def _show(document: object, parts: Sequence[RenderableType], json_: bool) -> None:
    if json_:
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    for part in parts:
        out.print(part)
