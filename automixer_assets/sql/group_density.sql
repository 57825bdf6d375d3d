-- rho_g = (1 / T_g) sum over x in g of I_joint(x) s_x, in utility (paper, section 5).
-- Grain:  group.
-- Input:  $files       selection files of all groups: row, n_tokens, joint_utility
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
-- Output: group, n_documents, n_tokens (T_g), density (rho_g; null when T_g = 0).
-- Sums run in a fixed order (rows of a shard, then shards), so that the last bit does not depend on threads.
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(files := ['s.parquet'], selections := [{'file': 's.parquet', 'group': 'g', 'snapshot': 'A', 'shard': 'shard-00000'}]);
WITH selections AS (
    SELECT unnest($selections, recursive := true)
),
shard_sums AS (
    SELECT
        filename,
        count(*) AS n_documents,
        sum(n_tokens) AS n_tokens,
        fsum(joint_utility * n_tokens ORDER BY "row") AS utility_tokens
    FROM read_parquet($files, hive_partitioning = false)
    GROUP BY filename
)
SELECT
    "group",
    CAST(coalesce(sum(n_documents), 0) AS BIGINT) AS n_documents,
    CAST(coalesce(sum(n_tokens), 0) AS BIGINT) AS n_tokens,
    fsum(utility_tokens ORDER BY snapshot, shard) / nullif(sum(n_tokens), 0) AS density
FROM selections
LEFT JOIN shard_sums ON shard_sums.filename = selections.file
GROUP BY "group"
ORDER BY "group"
