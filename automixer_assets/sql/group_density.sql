-- rho_g = (1 / T_g) sum over x in g of I_joint(x) s_x, in utility (paper, section 5).
-- Grain:  group.
-- Input:  $file  memberships.parquet: snapshot, shard, in__GROUP ..., n_documents, n_tokens, utility_tokens
-- Output: group, n_documents, n_tokens (T_g), density (rho_g; null when T_g = 0).
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(file := 'memberships.parquet');
WITH memberships AS (
    SELECT file_row_number AS membership, n_documents, n_tokens, utility_tokens, COLUMNS('^in__')
    FROM read_parquet($file, hive_partitioning = false)
),
members AS (
    SELECT substr(name, length('in__') + 1) AS "group", membership, n_documents, n_tokens, utility_tokens
    FROM memberships
    UNPIVOT (is_member FOR name IN (COLUMNS('^in__')))
    WHERE is_member
)
SELECT
    "group",
    CAST(sum(n_documents) AS BIGINT) AS n_documents,
    CAST(sum(n_tokens) AS BIGINT) AS n_tokens,
    fsum(utility_tokens ORDER BY membership) / nullif(sum(n_tokens), 0) AS density
FROM members
GROUP BY "group"
ORDER BY "group"
