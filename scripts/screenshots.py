"""Take the README's screenshots from a running `make dev`: python scripts/screenshots.py [URL] [CHROMIUM]."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
PAGES = {
    "lineage": "/assets/weight_manifest?view=lineage&lineageScope=upstream&lineageDepth=20",
    "weight_manifest": "/assets/weight_manifest?view=partitions&partition=demo",
}


def main(url: str = "http://127.0.0.1:3000", chromium: str = "/usr/bin/chromium", *paths: str) -> None:
    """Save one picture per page; extra paths are saved under their last word."""
    pages = {path.rsplit("/", maxsplit=1)[-1].split("?")[0]: path for path in paths} or PAGES
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        for name, path in pages.items():
            take(page, url + path, IMAGES / f"{name}.png")
        browser.close()


def take(page: Page, address: str, out: Path) -> None:
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(3000)
    page.screenshot(path=out)
    print(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
