-- What a group chooses from, where some documents are no candidates of it: those that have a utility for it.
-- Grain:  one row.
-- Input:  $files   joint_influence shards: n_tokens
--         $column  the group's utilities
-- Output: n_candidates, candidate_tokens.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := ['shard-00000.parquet'], "column" := 'utility__g');
WITH documents AS (
    SELECT n_tokens, COLUMNS(lambda name: name = $column) AS utility
    FROM read_parquet($files, hive_partitioning = false)
)
SELECT
    count(utility) AS n_candidates,
    CAST(coalesce(sum(n_tokens) FILTER (utility IS NOT NULL), 0) AS BIGINT) AS candidate_tokens
FROM documents
