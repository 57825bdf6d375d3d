"""Influence of documents on tasks: gradients of the embedding and output matrices, or more (paper, section 4).

    query = fit_query(model, validation={"arc_easy": [(token_ids, loss_mask), ...]}, reference=[token_ids, ...])
    table = score_documents(model, documents=[token_ids, ...], query=query)

No Dagster here, and torch is imported only when something runs. Read `fit.py`, then `score.py`, then `gradients.py`;
`reference.py` says the same slowly, in float64, straight from the formulas.
"""

from automixer_assets.influence.copies import score_distinct
from automixer_assets.influence.curvature import CURVATURES
from automixer_assets.influence.fit import fit_query, tokens_of_fit
from automixer_assets.influence.item_scores import score_items
from automixer_assets.influence.language_model import Backend
from automixer_assets.influence.query import KERNEL_VERSION, Direction, InfluenceQuery, merge_queries, model_digest
from automixer_assets.influence.score import PassOptions, score_documents
from automixer_assets.influence.shard import ShardScores, score_shard
from automixer_assets.influence.shards import score_shards

__all__ = [
    "CURVATURES",
    "KERNEL_VERSION",
    "Backend",
    "Direction",
    "InfluenceQuery",
    "PassOptions",
    "ShardScores",
    "fit_query",
    "merge_queries",
    "model_digest",
    "score_distinct",
    "score_documents",
    "score_items",
    "score_shard",
    "score_shards",
    "tokens_of_fit",
]
