"""The report shows one version of a mixture as it was recorded, whatever was made since."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from automixer_assets.catalogue import find_version
from automixer_assets.report import gather_pages, write_report
from automixer_assets_tests.world import World


class Text(HTMLParser):
    """The text of a document, and the tags that were never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def written(world: World, name: str, folder: Path) -> str:
    with world.active():
        write_report(world.instance, find_version(world.instance, name), {}, folder / "report.html")
    return (folder / "report.html").read_text()


def test_a_report_holds_the_pages_behind_a_mixture_and_after_it(finished: World, tmp_path: Path):
    document = written(finished, "demo", tmp_path)
    parser = Text()
    parser.feed(document)
    assert parser.open == []
    headings = set(re.findall(r'<h2 id="([^"]+)">', document))
    assert {"weight_manifest[demo]", "grouped_shards[demo]", "selected_checkpoints[demo]"} <= headings
    assert {"weight_uncertainty[demo]", "progress_ratio_table", "demo/proxy_run"} <= headings
    assert {"comparison_table", "target_runs[demo]", "group_characteristics[demo]", "demo/benchmark_table"} <= headings
    manifest = json.loads((finished.path("weight_manifest", "demo") / "manifest.json").read_text())
    text = " ".join(parser.words)
    assert all(group["name"] in text for group in manifest["groups"])
    assert f"{manifest['mixture']}@{manifest['digest']}" in text


def test_a_reader_sees_tables_and_titles_and_no_markup_of_another_kind(finished: World, tmp_path: Path):
    document = written(finished, "demo", tmp_path)
    parser = Text()
    parser.feed(document)
    assert "Why these documents (Figure 5)" in parser.words
    assert "Proxy on the benchmarks: demo" in parser.words
    pins = document.split("<h3>made from</h3>")[1].split("</table>")[0]
    assert pins.count("<tr>") > 3
    assert "](" not in pins
    assert not [word for word in parser.words if "|---|" in word]


def test_a_report_needs_no_network_and_runs_no_script(finished: World, tmp_path: Path):
    document = written(finished, "demo", tmp_path)
    assert "<script" not in document
    assert not re.findall(r'(?:src|href)="(?!#|data:image/png;base64,)', document)
    assert document.count("data:image/png;base64,") >= 5


def test_an_older_version_keeps_its_own_pages(world: World, tmp_path: Path):
    with world.active():
        before = find_version(world.instance, "uniform")
        first = {page.name: page.timestamp for page in gather_pages(world.instance, before)}
    world.run("grouped_shards+", "uniform", overrides={"mixtures.uniform.top_share": 0.25})
    with world.active():
        after = find_version(world.instance, "uniform")
        again = {page.name: page.timestamp for page in gather_pages(world.instance, before)}
        new = {page.name: page.timestamp for page in gather_pages(world.instance, after)}
    assert after.digest != before.digest
    assert first == again
    assert new["grouped_shards[uniform]"] != first["grouped_shards[uniform]"]


@pytest.mark.parametrize("text", ["<b>", "&amp;", '"quoted"'])
def test_what_pages_say_is_text_and_not_markup(finished: World, tmp_path: Path, text: str):
    with finished.active():
        version = find_version(finished.instance, "demo")
        write_report(finished.instance, version, {"weight_manifest": text}, tmp_path / "report.html")
    parser = Text()
    parser.feed((tmp_path / "report.html").read_text())
    assert text in parser.words
