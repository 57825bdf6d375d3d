"""What a materialisation was made from, on its page: a link to each input's own event, and the graph of a mixture."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import dagster as dg

from automixer_assets import metadata
from automixer_assets.events import Event, ancestors, read_event
from automixer_assets.lineage import Pin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

MAX_ROWS = 60
BOX = {"boxstyle": "round,pad=0.45", "linewidth": 1.0}
EDGE = "#5f6b7a"


def pins_table(instance: dg.DagsterInstance, pins: Sequence[Pin]) -> dg.MarkdownMetadataValue | dg.TextMetadataValue:
    """One row per input: its page as it was then, the run that made it, its content."""
    if not pins:
        return dg.MetadataValue.text("nothing of this project: its sources")
    rows = ["| input | made | run | content |", "|---|---|---|---|"]
    for pin in sorted(pins, key=lambda pin: pin.name)[:MAX_ROWS]:
        made = read_event(instance, pin.asset, pin.storage_id).timestamp
        when = datetime.datetime.fromtimestamp(made, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
        name = pin.name.replace("|", "\\|")
        rows.append(
            f"| [{name}]({event_path(pin.asset, made)}) | {when} | [{pin.run_id[:8]}](/runs/{pin.run_id}) | "
            f"`{pin.data_version[:12]}` |"
        )
    left_out = len(pins) - MAX_ROWS
    return dg.MetadataValue.md("\n".join(rows) + (f"\n\nand {left_out} more: see `pins`" if left_out > 0 else ""))


def event_path(asset: str, made: float) -> str:
    """Where the web server shows the materialisation of that moment, whatever was made afterwards.

    The page of a partition shows its latest materialisation even with `asOf`; the list of events does not.
    """
    return f"/assets/{quote(asset)}?view=events&asOf={round(made * 1000)}"


def lineage_plot(instance: dg.DagsterInstance, name: str, pins: Sequence[Pin]) -> dg.MarkdownMetadataValue:
    """Everything that `name` is made from, one box per asset with what of it was read."""
    events = ancestors(instance, pins)
    edges = _asset_edges(name, pins, events)
    labels = _labels(name, events)
    rows = 1 + max(_depths(set(labels), edges).values())
    return metadata.plot(lambda axes: _draw(axes, labels, edges), width=8.0, height=max(1.0, 0.68 * rows))


def _asset_edges(name: str, pins: Sequence[Pin], events: Mapping[int, Event]) -> set[tuple[str, str]]:
    """(read, reader) by asset."""
    own = name.partition("[")[0]
    return {(pin.asset, own) for pin in pins} | {
        (pin.asset, event.asset) for event in events.values() for pin in event.pins
    }


def _labels(name: str, events: Mapping[int, Event]) -> dict[str, str]:
    """By asset its name and how much of it was read."""
    labels = {name.partition("[")[0]: name.replace("[", "\n[")}
    for asset in sorted({event.asset for event in events.values()}):
        own = [event for event in events.values() if event.asset == asset]
        names = sorted({event.partition or "" for event in own})
        contents = {(event.partition, event.sha256) for event in own}
        versions = "" if len(contents) == len(names) else f", {len(contents)} versions"
        below = (names[0] or own[0].sha256[:8]) if len(names) == 1 else f"{len(names)} partitions"
        labels[asset] = f"{asset}\n{below}{versions}"
    return labels


def _draw(axes: Axes, labels: Mapping[str, str], edges: set[tuple[str, str]]) -> None:
    places, read = _places(set(labels), edges), {asset for asset, _ in edges}
    axes.set_axis_off()
    boxes = {asset: _box(axes, place, labels[asset], last=asset not in read) for asset, place in places.items()}
    for source, reader in sorted(edges):
        direct = not _longer_way(source, reader, edges)
        arrow = {
            "arrowstyle": "-|>",
            "color": EDGE if direct else "#c3cad3",
            "linewidth": 1.2 if direct else 0.8,
            "patchA": boxes[source].get_bbox_patch(),
            "patchB": boxes[reader].get_bbox_patch(),
            "connectionstyle": "arc3,rad=0" if direct else "arc3,rad=0.16",
        }
        axes.annotate("", xy=places[reader], xytext=places[source], arrowprops=arrow, zorder=2 if direct else 1)
    xs, ys = zip(*places.values(), strict=True)
    axes.set_xlim(min(xs) - 0.55, max(xs) + 0.55)
    axes.set_ylim(min(ys) - 0.4, max(ys) + 0.4)


def _box(axes: Axes, place: tuple[float, float], label: str, *, last: bool) -> Text:
    """The mixture itself, which nothing in the picture reads, is filled."""
    fill, color = (metadata.PALETTE[0], "white") if last else ("#eaf0fb", "#1c2430")
    box = {**BOX, "facecolor": fill, "edgecolor": EDGE}
    return axes.text(*place, label, ha="center", va="center", fontsize=9, color=color, bbox=box, zorder=3)


def _places(assets: set[str], edges: set[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """Sources on top; a row per longest way from them, its assets in name order around the middle."""
    depth = _depths(assets, edges)
    rows: dict[int, list[str]] = {}
    for asset in sorted(assets):
        rows.setdefault(depth[asset], []).append(asset)
    return {
        asset: (place - (len(members) - 1) / 2, -float(row))
        for row, members in rows.items()
        for place, asset in enumerate(members)
    }


def _depths(assets: set[str], edges: set[tuple[str, str]]) -> dict[str, int]:
    """Per asset the longest way from a source."""
    depth: dict[str, int] = {}

    def of(asset: str) -> int:
        if asset not in depth:
            depth[asset] = 1 + max((of(read) for read, reader in edges if reader == asset), default=-1)
        return depth[asset]

    return {asset: of(asset) for asset in assets}


def _longer_way(read: str, reader: str, edges: set[tuple[str, str]]) -> bool:
    """Whether `reader` has `read` also by way of something else."""
    queue = [middle for source, middle in edges if source == read and middle != reader]
    seen: set[str] = set()
    while queue:
        asset = queue.pop()
        if asset == reader:
            return True
        if asset not in seen:
            seen.add(asset)
            queue.extend(middle for source, middle in edges if source == asset)
    return False
