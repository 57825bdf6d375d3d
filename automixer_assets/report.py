"""One HTML file about a mixture: the pages of the assets behind it and after it, as they were recorded.

Every figure was put on a page when its asset was materialised; here they are gathered by the mixture's own pins, so a
report shows what this version of the mixture was made from, whatever was materialised since. The file needs no network.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from automixer_assets import __version__
from automixer_assets.catalogue import MixtureVersion
from automixer_assets.files import write_atomically
from automixer_assets.lineage import Pin, asset_name, record_at, recorded_pins, records_of

BEFORE = ("selected_checkpoints", "benchmark_table", "proxy_run", "grouped_shards", "joint_influence")
"""Kinds of assets that a mixture is made from and whose pages are shown, in the order of the report."""
AFTER = (
    "weight_manifest",
    "weight_uncertainty",
    "group_characteristics",
    "target_runs",
    "comparison_table",
    "progress_ratio_table",
)
"""Kinds that are made from it, or of its proxy beside others."""
WHOLE = ("comparison_table", "progress_ratio_table")
"""Those without partitions."""
ORDER = (
    "weight_manifest",
    "weight_uncertainty",
    "comparison_table",
    "target_runs",
    "group_characteristics",
    "grouped_shards",
    "selected_checkpoints",
    "progress_ratio_table",
    "benchmark_table",
    "proxy_run",
    "joint_influence",
)
ANCHORS = ("weight_manifest", "grouped_shards", "target_runs", "benchmark_table")
"""A page is of this version if it read the version's own materialisation of one of these."""
TITLES = {
    "weight_manifest": "Weights and exposure",
    "weight_uncertainty": "How sure the weights are",
    "comparison_table": "Comparison with the baseline (Tables 2 and 3, Figure 4)",
    "target_runs": "Target runs",
    "group_characteristics": "Why these documents (Figure 5)",
    "grouped_shards": "Groups and their overlap (Figure 3, Table 4)",
    "selected_checkpoints": "Selected checkpoints",
    "progress_ratio_table": "Where in the run skills peak (Table 1)",
    "benchmark_table": "Proxy on the benchmarks",
    "proxy_run": "Proxy: shape and training",
    "joint_influence": "Joint influence",
}
"""What a kind of page is called; tables and figures are the paper's."""
HIDDEN = {"uri", "folder", "sha256", "pins", "settings", "settings digest", "failed_checks", "seconds", "SQL", "code"}
IMAGE = re.compile(r"^!\[[^\]]*\]\((data:image/png;base64,[A-Za-z0-9+/=]+)\)$")
LONG_CELL = 60
"""Characters beyond which a cell runs over several lines."""
CELL_BORDER = re.compile(r"(?<!\\)\|")
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^)]*\)")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid #d5dbe3; padding-top: 1rem }
h2 small { color: #6b7a8a; font-weight: normal; font-size: .8rem; margin-left: .6rem }
h3 { font-size: 1rem; margin-bottom: .3rem } .question { color: #4a5a6b; white-space: pre-line }
table { border-collapse: collapse; font-size: .85rem; display: block; overflow-x: auto }
td, th { padding: .2rem .6rem; border-bottom: 1px solid #e4e8ee; text-align: left; white-space: nowrap }
td.long { white-space: normal; min-width: 26rem }
pre { background: #f4f6f9; padding: .6rem; overflow-x: auto; font-size: .8rem } img { max-width: 100% }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem } dd { margin: 0 }
nav a { margin-right: 1rem; display: inline-block }
"""


@dataclass(frozen=True)
class Page:
    """What the page of one materialisation shows."""

    asset: str
    partition: str | None
    values: Mapping[str, dg.MetadataValue]
    timestamp: float

    @property
    def name(self) -> str:
        return asset_name(self.asset, self.partition)

    @property
    def kind(self) -> str:
        return self.asset.rsplit("/", maxsplit=1)[-1]

    @property
    def title(self) -> str:
        """With the proxy or the snapshot, where there may be several such pages."""
        proxy, _, _ = self.asset.rpartition("/")
        _, _, snapshot = (self.partition or "").partition("|")
        which = proxy or snapshot
        return f"{TITLES[self.kind]}: {which}" if which else TITLES[self.kind]


def write_report(
    instance: dg.DagsterInstance, version: MixtureVersion, questions: Mapping[str, str], out: Path
) -> list[str]:
    """Write the report of one version of a mixture; returns the names of the pages in it.

    Args:
        version: which materialisation of weight_manifest.
        questions: asset -> its description, whose first lines are the question that its page answers.
    """
    pages = sorted(gather_pages(instance, version), key=lambda page: (ORDER.index(page.kind), page.name))
    title = f"Mixture {version.mixture}@{version.digest[:12]}"
    sections = [_section(page, questions.get(page.asset, "")) for page in pages]
    links = "".join(f'<a href="#{html.escape(page.name)}">{html.escape(page.title)}</a>' for page in pages)
    head = f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    body = f"<h1>{html.escape(title)}</h1><p>automixer_assets {__version__}</p><nav>{links}</nav>{''.join(sections)}"
    document = f'<!doctype html><html lang="en"><meta charset="utf-8">{head}<body>{body}</body></html>\n'
    write_atomically(out, document.encode())
    return [page.name for page in pages]


def gather_pages(instance: dg.DagsterInstance, version: MixtureVersion) -> list[Page]:
    """The pages of the manifest, of what it was made from, and of the latest that was made from this very version."""
    own = next(
        record
        for record in records_of(instance, "weight_manifest", version.mixture)
        if record.run_id == version.run_id and record.timestamp == version.timestamp
    )
    pages, queue = {_page(own).name: _page(own)}, list(_pins(own))
    manifest_pins = {(pin.asset, pin.data_version) for pin in queue}
    while queue:
        pin = queue.pop()
        kind = pin.asset.rsplit("/", maxsplit=1)[-1]
        if pin.name in pages or kind not in {*BEFORE, "checkpoint_influence"}:
            continue
        record = record_at(instance, pin.asset, pin.storage_id)
        if record is not None:
            queue.extend(_pins(record))
            manifest_pins |= {(pin.asset, pin.data_version)} if kind == "benchmark_table" else set()
            if kind in BEFORE:
                pages[pin.name] = _page(record)
    made_from = {*manifest_pins, ("weight_manifest", version.digest)}
    for asset in AFTER[1:]:
        page = _latest_after(instance, asset, version.mixture, made_from)
        if page is not None:
            pages[page.name] = page
            made_from.add((asset, str(page.values["sha256"].value)))
    return list(pages.values())


def _latest_after(
    instance: dg.DagsterInstance, asset: str, mixture: str, made_from: set[tuple[str, str]]
) -> Page | None:
    """The newest page of an asset that read this version, or what it was made from."""
    partition = None if asset in WHOLE else mixture
    anchor = {each for each, _ in made_from if each.rsplit("/", maxsplit=1)[-1] in ANCHORS}
    for record in records_of(instance, asset, partition):
        read = {(pin.asset, pin.data_version) for pin in _pins(record) if pin.asset in anchor}
        strictest = {each for each in read if each[0] == "weight_manifest"} or read
        if strictest & made_from:
            return _page(record)
    return None


def _values(record: dg.EventLogRecord) -> Mapping[str, dg.MetadataValue]:
    materialization = record.asset_materialization
    return {} if materialization is None else materialization.metadata


def _pins(record: dg.EventLogRecord) -> tuple[Pin, ...]:
    values = _values(record)
    return recorded_pins(values) if "pins" in values else ()


def _page(record: dg.EventLogRecord) -> Page:
    assert record.asset_key is not None
    return Page(record.asset_key.to_user_string(), record.partition_key, _values(record), record.timestamp)


def _section(page: Page, question: str) -> str:
    shown = {
        name: value for name, value in page.values.items() if name not in HIDDEN and not name.startswith("dagster/")
    }
    large = {name: value for name, value in shown.items() if _is_large(value)}
    nested = {name: value for name, value in shown.items() if isinstance(value.value, Mapping)}
    small = [
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(_text(value))}</dd>"
        for name, value in shown.items()
        if name not in {*large, *nested}
    ]
    body = "".join(f"<h3>{html.escape(name)}</h3>{_large(value)}" for name, value in large.items())
    folded = "".join(_folded(name, value) for name, value in nested.items())
    facts = f"<dl>{''.join(small)}</dl>" if small else ""
    name = html.escape(page.name)
    heading = f'<h2 id="{name}">{html.escape(page.title)} <small>{name}</small></h2>'
    return f'{heading}<p class="question">{html.escape(question)}</p>{facts}{body}{folded}'


def _folded(name: str, value: dg.MetadataValue) -> str:
    content = html.escape(json.dumps(value.value, indent=1))
    return f"<details><summary>{html.escape(name)}</summary><pre>{content}</pre></details>"


def _is_large(value: dg.MetadataValue) -> bool:
    return isinstance(value, (dg.TableMetadataValue, dg.MarkdownMetadataValue))


def _large(value: dg.MetadataValue) -> str:
    if isinstance(value, dg.TableMetadataValue):
        names = [column.name for column in value.schema.columns]
        return _table(names, [[str(record.data.get(name, "")) for name in names] for record in value.records])
    text = str(value.value)
    if image := IMAGE.match(text):
        return f'<img src="{image[1]}" alt="">'
    lines = text.strip().splitlines()
    rows = [_cells(line) for line in lines if line.startswith("|")]
    if len(rows) < 3 or set("".join(rows[1])) != {"-"}:
        return f"<pre>{html.escape(text)}</pre>"
    notes = " ".join(line for line in lines if not line.startswith("|"))
    return _table(rows[0], rows[2:]) + (f"<p>{html.escape(notes)}</p>" if notes else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{html.escape(name)}</th>" for name in head)]
    lines += ["".join(_cell(cell) for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(text: str) -> str:
    long = ' class="long"' if len(text) > LONG_CELL else ""
    return f"<td{long}>{html.escape(text)}</td>"


def _cells(line: str) -> list[str]:
    """Of a line of a Markdown table, links by their text: they lead into the UI, which a reader of the file has not."""
    cells = CELL_BORDER.split(line.strip())
    return [LINK.sub(r"\1", cell.strip()).replace("\\|", "|").strip("`") for cell in cells[1:-1]]


def _text(value: dg.MetadataValue) -> str:
    found = value.value
    return f"{found:.6g}" if isinstance(found, float) else str(found)
