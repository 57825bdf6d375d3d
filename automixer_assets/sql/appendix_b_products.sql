-- Total influence token product P_g = sum over x in g of scaled(x) s_x (paper, Appendix B), in utility.
-- A(id, total_influence) sums a document's utilities over the groups where it survived, without alpha; it is then
-- min-max scaled over all of A. Where all totals are equal min-max is undefined: every document counts 1.
-- Grain:  group.
-- Input:  $files       selection files of all groups: row, n_tokens, utility
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
-- Output: group, n_tokens, token_product (P_g), density_scaled (P_g / T_g; null when T_g = 0).
-- Shell:  as for group_density.sql.
WITH selections AS (
    SELECT unnest($selections, recursive := true)
),
survivors AS NOT MATERIALIZED (
    SELECT "group", snapshot, shard, "row", CAST(n_tokens AS BIGINT) AS n_tokens, utility
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN selections ON selections.file = rows_kept.filename
),
total_influence AS (
    SELECT snapshot, shard, "row", sum(utility ORDER BY "group") AS total
    FROM survivors
    GROUP BY snapshot, shard, "row"
),
bounds AS (
    SELECT min(total) AS lowest, max(total) AS highest
    FROM total_influence
),
scaled_influence AS (
    SELECT
        snapshot,
        shard,
        "row",
        CASE WHEN highest = lowest THEN 1.0 ELSE (total - lowest) / (highest - lowest) END AS scaled
    FROM total_influence
    CROSS JOIN bounds
),
shard_products AS (
    SELECT
        "group",
        snapshot,
        shard,
        sum(n_tokens) AS n_tokens,
        fsum(scaled * n_tokens ORDER BY "row") AS token_product
    FROM survivors
    JOIN scaled_influence USING (snapshot, shard, "row")
    GROUP BY "group", snapshot, shard
)
SELECT
    "group",
    CAST(sum(n_tokens) AS BIGINT) AS n_tokens,
    fsum(token_product ORDER BY snapshot, shard) AS token_product,
    fsum(token_product ORDER BY snapshot, shard) / nullif(sum(n_tokens), 0) AS density_scaled
FROM shard_products
GROUP BY "group"
ORDER BY "group"
