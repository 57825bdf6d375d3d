"""A mixture's lineage for a person: the tree at a terminal, and the pins and the graph on an asset's page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from automixer_assets.lineage_check import Fault
from automixer_assets.lineage_graph import Lineage, Node
from automixer_assets.pages.retention import readable_size

SHORT = 12


def lineage_tree(lineage: Lineage) -> RenderableType:
    """What was read stands below what read it; what several read is spelled out once."""
    title = f"Lineage of {lineage.reference.partition('@')[0]}@{lineage.reference.partition('@')[2][:SHORT]}"
    root, seen = Tree(Text(title, style="bold")), set[int]()
    _grow(root, lineage, lineage.root, seen)
    size = sum(source.size or 0 for source in lineage.sources)
    note = f"{len(lineage.nodes)} materialisations, {len(lineage.sources)} sources ({readable_size(size)})"
    return Group(Text(""), root, Text(note, style="italic"))


def faults_panel(faults: Sequence[Fault]) -> RenderableType:
    """One line per file that is missing or changed."""
    if not faults:
        return Text("everything that it was made from is there, as it was")
    return Text("\n".join(fault.sentence for fault in faults))


def _grow(branch: Tree, lineage: Lineage, node: Node, seen: set[int]) -> None:
    known = node.event.storage_id in seen
    grown = branch.add(_line(node, known))
    if known:
        return
    seen.add(node.event.storage_id)
    for source in node.sources:
        size = "" if source.size is None else f"  {readable_size(source.size)}"
        grown.add(Text(f"{source.path}  sha256 {source.sha256[:SHORT]}{size}", style="green"))
    for parent in sorted((lineage.nodes[storage_id] for storage_id in node.inputs), key=lambda each: each.name):
        _grow(grown, lineage, parent, seen)


def _line(node: Node, known: bool) -> Text:
    step = node.training_step
    line = Text(node.name, style="" if known else "bold")
    if step is not None and node.event.asset.endswith("/proxy_checkpoints"):
        line.append(f"  step {step['step']:,} of {step['proxy']}", style="not bold")
    if known:
        return line.append("  (above)", style="dim")
    details = f"  {node.event.sha256[:SHORT]}  {node.made[:16].replace('T', ' ')}  code {node.event.code_version}"
    gone = "" if node.artifact is not None else "  its folder is gone"
    return line.append(details, style="not bold dim").append(gone, style="not bold red")
