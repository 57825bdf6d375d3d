-- Token-weighted utility of every group at every group's checkpoint, one shard's part: rho_g is the sum over checkpoints
-- of alpha x density (paper, sections 4 and 5), so other alphas need no other pass.
-- Grain:  group and checkpoint.
-- Input:  $joint   the shard's joint_influence file: utility__CHECKPOINT
--         $files   the shard's selection files, one per group: row, n_tokens
--         $groups  [{file, group}]: whose file it is
-- Output: group, checkpoint, n_tokens, utility_tokens (sum of utility x n_tokens).
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(joint := 'j.parquet', files := ['s.parquet'], "groups" := [{'file': 's.parquet', 'group': 'g'}]);
WITH places AS (
    SELECT unnest($groups, recursive := true)
),
kept AS (
    SELECT "group", "row", n_tokens
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN places ON places.file = rows_kept.filename
),
documents AS (
    SELECT file_row_number AS "row", COLUMNS('^utility__')
    FROM read_parquet($joint, hive_partitioning = false)
),
utilities AS (
    SELECT "row", substr(name, length('utility__') + 1) AS checkpoint, utility
    FROM documents
    UNPIVOT (utility FOR name IN (COLUMNS('^utility__')))
)
SELECT
    "group",
    checkpoint,
    CAST(sum(n_tokens) AS BIGINT) AS n_tokens,
    fsum(utility * n_tokens ORDER BY "row") AS utility_tokens
FROM kept
JOIN utilities USING ("row")
GROUP BY "group", checkpoint
ORDER BY "group", checkpoint
