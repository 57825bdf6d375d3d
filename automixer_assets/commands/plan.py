"""What a pipeline will take before it runs: measuring this machine, and pricing what is still to be made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automixer_assets.commands import Config, Json, Overrides, errors, open_automixer, open_instance, out

if TYPE_CHECKING:
    from automixer_assets.planning.constants import Constants
    from automixer_assets.planning.workload import Workload

app = typer.Typer()
ConstantsFile = Annotated[Path | None, typer.Option("--constants", help="default: what `automixer calibrate` wrote")]
Vocabulary = Annotated[int | None, typer.Option("--vocabulary", help="ids of the tokenizer, if it is not here")]


@app.command()
def calibrate(
    out_: Annotated[Path | None, typer.Option("--out", help="where to write; default: below AUTOMIXER_STATE")] = None,
    vocabulary: Vocabulary = None,
    json_: Json = False,
    config: Config = None,
    set_: Overrides = None,
) -> None:
    """Measure this machine in a minute or two, at the shapes of the settings: what `automixer plan` reckons with."""
    from automixer_assets.calibrating import calibrate_for
    from automixer_assets.plan_sizes import Given, constants_path
    from automixer_assets.planning.constants import save_constants

    automixer = open_automixer(config, set_)
    path = out_ or constants_path()
    with open_instance() as instance:
        made = calibrate_for(
            instance, automixer, Given(vocabulary=vocabulary), path.parent, lambda line: errors.print(f"  {line}")
        )
    save_constants(made, path)
    if json_:
        out.print_json(made.model_dump_json())
        return
    for each in made.passes:
        out.print(f"{each.kind}: {each.flops_per_second / 1e9:,.1f} GFLOP/s at {each.parameters / 1e6:.1f}M parameters")
    for work in made.work:
        fixed = f"{work.fixed_seconds:.2f} s per artefact, {work.shard_seconds:.3f} s per shard"
        out.print(f"{work.kind}: {work.per_second:,.0f} {_unit(work.kind)}/s, {fixed}")
    if made.free_share is not None and made.free_share < 0.9:
        out.print(f"other programs were running: this one had {made.free_share:.0%} of a processor")
    out.print(f"written to {path}", soft_wrap=True)


@app.command()
def plan(
    tokens: Annotated[
        list[str] | None, typer.Option("--tokens", help="size of a snapshot that is not here: NAME=1.3T")
    ] = None,
    added: Annotated[str | None, typer.Option("--added", help="tokens of one more snapshot; default: the mean")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="equal machines, or accelerators")] = 1,
    hardware: Annotated[str | None, typer.Option("--hardware", help="a100, h100 or h200: by their data sheets")] = None,
    utilisation: Annotated[float, typer.Option("--utilisation", help="share of the peak, with --hardware")] = 0.4,
    scoring_type: Annotated[
        str | None, typer.Option("--scoring-type", help="float32 or bfloat16; default: the settings' scoring.precision")
    ] = None,
    vocabulary: Vocabulary = None,
    document_tokens: Annotated[float | None, typer.Option("--document-tokens", help="tokens of a document")] = None,
    constants: ConstantsFile = None,
    json_: Json = False,
    config: Config = None,
    set_: Overrides = None,
) -> None:
    """What is still to be made, and what that takes: operations, device-hours, time, bytes, memory. Starts nothing."""
    from automixer_assets.plan import make_plan
    from automixer_assets.plan_sizes import Given, constants_path, measure
    from automixer_assets.planning.constants import load_constants

    automixer = open_automixer(config, set_)
    known = load_constants(constants or constants_path())
    given = Given(tokens or (), added, vocabulary, document_tokens)
    with open_instance() as instance:
        if hardware is not None:
            workload = measure(instance, automixer.frozen(), given)
            scoring = scoring_type or workload.settings.scoring.precision
            known = _on(known, hardware, utilisation, workload, scoring)
        made = make_plan(instance, automixer, known, given)
    if hardware is not None:
        assumed = f"{hardware}: {utilisation:.0%} of the data sheet's peak is assumed, not measured"
        made = replace(made, notes=(assumed, *made.notes))
    if json_:
        out.print_json(json.dumps(made.as_json(workers)))
        return
    from automixer_assets.pages.plan import plan_tables

    for table in plan_tables(made, workers):
        out.print(table)


def _unit(kind: str) -> str:
    from automixer_assets.planning.constants import UNITS

    return UNITS[kind]


def _on(known: Constants, hardware: str, utilisation: float, workload: Workload, scoring: str) -> Constants:
    from automixer_assets.errors import ConfigurationError
    from automixer_assets.planning.flops import Shape
    from automixer_assets.planning.hardware import on_accelerator

    if scoring not in ("float32", "bfloat16"):
        raise ConfigurationError(f"--scoring-type must be float32 or bfloat16, not {scoring!r}")
    shapes = {name: (workload.shape(proxy), proxy.training.precision) for name, proxy in workload.trained().items()}
    targets = workload.settings.targets
    if targets is not None:
        shapes["targets"] = (Shape.of(targets.architecture, workload.vocabulary), targets.training.precision)
    return on_accelerator(known, hardware, utilisation, shapes, scoring=scoring)
