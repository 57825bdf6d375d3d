-- What regrouping chooses from: the union of the mixture's snapshots.
-- Grain:  one row.
-- Input:  $files  joint_influence shards: n_tokens, joint_utility
-- Output: n_candidates, candidate_tokens, n_unusable (joint utility null or not finite).
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := ['shard-00000.parquet']);
SELECT
    count(*) AS n_candidates,
    CAST(coalesce(sum(n_tokens), 0) AS BIGINT) AS candidate_tokens,
    count(*) FILTER (joint_utility IS NULL OR NOT isfinite(joint_utility)) AS n_unusable
FROM read_parquet($files, hive_partitioning = false)
