-- Second pass to an exact threshold: the utility at a rank within one bucket of utility_histogram.sql (DESIGN: top share).
-- Grain:  one row.
-- Input:  $files    joint_influence shards
--         $column   a column of utilities
--         $lowest, $highest  the bucket, both ends included
--         $rank     1 is the highest utility of the bucket
-- Output: utility, n_above (documents of the bucket above it), n_tied (documents with just that utility).
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(files := ['a.parquet'], "column" := 'utility__g', lowest := 0.5, highest := 0.53, rank := 10);
WITH bucket AS (
    SELECT COLUMNS(lambda name: name = $column) + 0 AS utility
    FROM read_parquet($files, hive_partitioning = false)
),
distinct_utilities AS (
    SELECT utility, count(*) AS n_tied
    FROM bucket
    WHERE utility BETWEEN CAST($lowest AS DOUBLE) AND CAST($highest AS DOUBLE)
    GROUP BY ALL
),
ranked AS (
    SELECT utility, n_tied, CAST(sum(n_tied) OVER (ORDER BY utility DESC) AS BIGINT) - n_tied AS n_above
    FROM distinct_utilities
)
SELECT utility, n_above, n_tied
FROM ranked
WHERE n_above < $rank AND $rank <= n_above + n_tied
