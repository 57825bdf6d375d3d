-- Total influence token product P_g = sum over x in g of scaled(x) s_x (paper, Appendix B), in utility.
-- scaled(x) = (A(x) - lowest) / (highest - lowest) over all documents that any group keeps, A being the total influence
-- of group_memberships.sql. Where all totals are equal min-max is undefined: every document counts 1.
-- Grain:  group.
-- Input:  $file  memberships.parquet: in__GROUP ..., n_tokens, lowest, highest, shard_lowest, excess_tokens
-- Output: group, n_tokens, token_product (P_g), density_scaled (P_g / T_g; null when T_g = 0).
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(file := 'memberships.parquet');
WITH memberships AS (
    SELECT file_row_number AS membership, n_tokens, lowest, highest, shard_lowest, excess_tokens, COLUMNS('^in__')
    FROM read_parquet($file, hive_partitioning = false)
),
bounds AS (
    SELECT min(lowest) AS lowest, max(highest) AS highest
    FROM memberships
),
members AS (
    SELECT substr(name, length('in__') + 1) AS "group", membership, n_tokens, shard_lowest, excess_tokens
    FROM memberships
    UNPIVOT (is_member FOR name IN (COLUMNS('^in__')))
    WHERE is_member
),
products AS (
    SELECT
        "group",
        CAST(sum(n_tokens) AS BIGINT) AS n_tokens,
        CASE
            WHEN any_value(bounds.highest) = any_value(bounds.lowest) THEN CAST(sum(n_tokens) AS DOUBLE)
            ELSE
                fsum(excess_tokens + (shard_lowest - bounds.lowest) * n_tokens ORDER BY membership)
                / (any_value(bounds.highest) - any_value(bounds.lowest))
        END AS token_product
    FROM members
    CROSS JOIN bounds
    GROUP BY "group"
)
SELECT "group", n_tokens, token_product, token_product / nullif(n_tokens, 0) AS density_scaled
FROM products
ORDER BY "group"
