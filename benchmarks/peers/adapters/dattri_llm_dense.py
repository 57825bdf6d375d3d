"""dattri-llm's `TracInAttributor.attribute` with a dense query, through its extension point `transform_test_rep`.

dattri-llm takes query texts, and has no argument for a direction that is an average or has a curvature in it. The
subclass replaces what it captured from m texts of two tokens by the given matrices, as its Kronecker attributors do.
Configured: factorised capture, one batch size for all, parameters frozen so that backward stops below the first
scored layer.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import torch
from dattri_llm import TracInAttributor
from dattri_llm.gradient.gradient import Gradient

from benchmarks.peers.adapters.dattri_llm_texts import live_scoring
from benchmarks.peers.case import Case, Score

DISTRIBUTION = "dattri-llm"
NOTE = "through a subclass: its interface takes query texts, no direction"


def prepare(case: Case) -> Score:
    class GivenQuery(TracInAttributor):
        def transform_test_rep(self, test_rep: Gradient) -> Gradient:
            return test_rep.map_layers(lambda name, value, kind: case.query[name].flatten(1))

    texts = torch.arange(2 * len(case.items)).view(-1, 2)  # [m, 2], all different: dattri-llm tells texts by hash
    return live_scoring(case, GivenQuery, texts)
