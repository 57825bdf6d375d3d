-- Second pass to an exact threshold: the utilities within one bucket of utility_histogram.sql (DESIGN: top share). Rows of
-- several parts of the shards are ranked together (utility_at_rank.sql).
-- Grain:  distinct utility.
-- Input:  $files    joint_influence shards
--         $column   a column of utilities
--         $lowest, $highest  the bucket, both ends included
-- Output: utility, n_documents.
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(files := ['a.parquet'], "column" := 'utility__g', lowest := 0.5, highest := 0.53);
WITH bucket AS (
    -- `+ 0` turns -0.0 into 0.0
    SELECT COLUMNS(lambda name: name = $column) + 0 AS utility
    FROM read_parquet($files, hive_partitioning = false)
)
SELECT utility, count(*) AS n_documents
FROM bucket
WHERE utility BETWEEN CAST($lowest AS DOUBLE) AND CAST($highest AS DOUBLE)
GROUP BY utility
