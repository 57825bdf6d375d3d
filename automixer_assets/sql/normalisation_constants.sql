-- Centre and spread of a checkpoint's utility on the reference sample (DESIGN: scale between checkpoints).
-- Grain:  one row.
-- Input:  $file     influence_query/reference_scores.parquet: influence_*  (paper's sign)
--         $columns  the influence columns of the group's tasks
-- Output: mean, standard_deviation (population; `z`), median, median_absolute_deviation (`median_mad`),
--         n_documents, n_unscored (null or not finite).
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(file := 'reference_scores.parquet', columns := [...]);
WITH scores AS (
    SELECT CAST([*COLUMNS(lambda name: list_contains($columns, name))] AS DOUBLE[]) AS influences
    FROM read_parquet($file, hive_partitioning = false)
),
utilities AS (
    SELECT
        CASE
            WHEN list_count(influences) = len(influences) THEN 0 - list_sum(influences) / len(influences)
        END AS utility
    FROM scores
)
SELECT
    favg(utility) FILTER (isfinite(utility)) AS mean,
    stddev_pop(utility) FILTER (isfinite(utility)) AS standard_deviation,
    median(utility) FILTER (isfinite(utility)) AS median,
    mad(utility) FILTER (isfinite(utility)) AS median_absolute_deviation,
    count(*) AS n_documents,
    count(*) FILTER (utility IS NULL OR NOT isfinite(utility)) AS n_unscored
FROM utilities
