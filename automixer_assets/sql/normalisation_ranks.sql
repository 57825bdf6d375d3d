-- Empirical distribution of a checkpoint's utility on the reference sample (DESIGN: scale between checkpoints).
-- Grain:  distinct utility, ascending.
-- Input:  $file     influence_query/reference_scores.parquet: influence_*  (paper's sign), all finite
--         $columns  the influence columns of the group's tasks
-- Output: knot (the utility), rank (share of the sample below it plus half of the share that equals it).
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(file := 'reference_scores.parquet', columns := [...]);
WITH scores AS (
    SELECT CAST([*COLUMNS(lambda name: list_contains($columns, name))] AS DOUBLE[]) AS influences
    FROM read_parquet($file, hive_partitioning = false)
),
utilities AS (
    SELECT 0 - list_sum(influences) / len(influences) AS utility
    FROM scores
)
SELECT
    utility AS knot,
    (sum(count(*)) OVER (ORDER BY utility) - count(*) / 2) / sum(count(*)) OVER () AS rank
FROM utilities
GROUP BY utility
ORDER BY utility
