"""One module per method: DISTRIBUTION, whose version is reported, NOTE for the table, and prepare(case) -> Score.

`prepare` is not timed. It raises CannotScore, after having asked the library, where the library cannot do the case.
"""

OURS = "ours"
ADAPTERS = {
    OURS: "benchmarks.peers.adapters.ours",
    "autograd loop": "benchmarks.peers.adapters.autograd_loop",
    "torch.func vmap": "benchmarks.peers.adapters.func_vmap",
    "bergson, hooks": "benchmarks.peers.adapters.bergson_hooks",
    "bergson, jvp": "benchmarks.peers.adapters.bergson_jvp",
    "dattri-llm, dense query": "benchmarks.peers.adapters.dattri_llm_dense",
    "dattri-llm, query texts": "benchmarks.peers.adapters.dattri_llm_texts",
    "kronfluence": "benchmarks.peers.adapters.kronfluence_pairwise",
    "TRAK": "benchmarks.peers.adapters.trak_features",
}
"""Name in the report -> module; not imported before it runs, in a process of its own."""
