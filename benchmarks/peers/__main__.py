"""Attribution libraries beside ours: python -m benchmarks.peers (or `make bench-peers`, which installs them first).

Each method runs in a process of its own on the same saved model, documents, layers and query. A pair is one scoring of
all documents by the method and one by ours, in turns; fitting, loading and a first run are not timed. CPU time, one
torch thread. Memory is the highest resident memory of the runs over that with model, documents and query loaded.
All methods compute the same quantity here, so scores are compared too: relative error and rank correlation against
ours. In float32 the error is theirs as much as ours, and grows with the vocabulary (dot products of millions of terms).
"""

from __future__ import annotations

import argparse
import platform
import time
from importlib.metadata import version

import torch

from benchmarks.peers.adapters import ADAPTERS, OURS
from benchmarks.peers.case import LAYERS, Configuration, all_configurations, default_configurations
from benchmarks.peers.measure import Options, measure
from benchmarks.peers.table import section, where_behind


def main() -> None:
    """Print the report, a section at a time."""
    chosen = _arguments()
    options = Options(chosen.pairs, chosen.tokens, chosen.batch_tokens, chosen.limit)
    print(
        f"Python {platform.python_version()}, torch {version('torch')}, {chosen.tokens} tokens per run, "
        f"{chosen.batch_tokens} per batch, {chosen.pairs} pairs\n"
    )
    torch.set_num_threads(1)
    begun = time.monotonic()
    results = []
    for configuration in _configurations(chosen):
        rows = measure(configuration, chosen.methods, options)
        results.append((configuration, rows))
        print(section(configuration, rows, chosen.tokens), flush=True)
    print(where_behind(results))
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes")


def _arguments() -> argparse.Namespace:
    methods = [name for name in ADAPTERS if name != OURS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods, metavar="METHOD", help=str(methods))
    parser.add_argument("--all", action="store_true", help="the full grid of configurations, not a selection")
    parser.add_argument("--layers", choices=list(LAYERS), help="only these layers")
    parser.add_argument("--vocabulary", type=int, help="only this vocabulary")
    parser.add_argument("--pairs", type=int, default=5, help="paired runs per row")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens scored per run")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens per batch, for every method")
    parser.add_argument(
        "--limit", type=float, default=120.0, help="seconds a method may take to set up, or for one run"
    )
    return parser.parse_args()


def _configurations(chosen: argparse.Namespace) -> list[Configuration]:
    return [
        configuration
        for configuration in (all_configurations() if chosen.all else default_configurations())
        if chosen.layers in (None, configuration.layers) and chosen.vocabulary in (None, configuration.vocabulary)
    ]


if __name__ == "__main__":
    main()
