"""A plan for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from automixer_assets.plan import Plan
from automixer_assets.planning.costs import StageCost, total

SECONDS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))
COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
OPERATIONS = ((1e21, "ZFLOP"), (1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"))
COLUMNS = ("stage", "to make", "tokens", "operations", "worker h", "wall", "read", "written", "memory")


def plan_tables(plan: Plan, workers: int) -> Iterator[RenderableType]:
    """What is to be made, what another snapshot takes, and what both rest on."""
    machine = plan.constants.machine
    yield _table(f"To be made, {workers} x {machine.device} ({machine.processor})", plan.stages, workers)
    yield _table("One more snapshot", plan.added, workers)
    for size in plan.workload.snapshots:
        yield Text(f"{size.name}: {in_units(size.tokens, COUNTS)} tokens, {size.documents:,.0f} documents ({size.how})")
    for note in plan.notes:
        yield Text(f"- {note}")


def _table(title: str, stages: Sequence[StageCost], workers: int) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=0)
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for stage in stages:
        table.add_row(*_row(stage, workers))
    cost = total(stage.cost for stage in stages)
    wall = sum(stage.wall_seconds(workers) for stage in stages)
    table.add_section()
    table.add_row(
        "all",
        _to_make(sum(stage.to_make for stage in stages), sum(stage.current for stage in stages)),
        "",
        in_units(cost.flops, OPERATIONS),
        _hours(cost.seconds),
        in_units(wall, SECONDS),
        in_units(cost.bytes_read, BYTES),
        in_units(cost.bytes_written, BYTES),
        in_units(cost.memory, BYTES),
    )
    return table


def _row(stage: StageCost, workers: int) -> list[str]:
    cost = stage.cost
    made = _to_make(stage.to_make, stage.current)
    if not stage.to_make:
        return [stage.stage, made, *["–"] * (len(COLUMNS) - 2)]
    return [
        stage.stage,
        made,
        in_units(cost.tokens, COUNTS),
        in_units(cost.flops, OPERATIONS),
        _hours(cost.seconds),
        in_units(stage.wall_seconds(workers), SECONDS),
        in_units(cost.bytes_read, BYTES),
        in_units(cost.bytes_written, BYTES),
        in_units(cost.memory, BYTES),
    ]


def in_units(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Three digits and the largest unit that leaves at least one before the point; a dash for nothing."""
    if not value:
        return "–"
    for size, unit in units:
        if value >= size:
            return f"{value / size:,.3g} {unit}" if value / size < 999.5 else f"{value / size:,.0f} {unit}"
    return f"{value:.2g} {units[-1][1]}" if units is SECONDS else f"{value:,.0f}"


def _to_make(left: int, current: int) -> str:
    return f"{left} of {left + current}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.3g}" if seconds < 3.6e6 else f"{seconds / 3600:,.0f}"
