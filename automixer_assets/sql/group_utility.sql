-- Utility of every document of one shard for one group (paper, section 4; DESIGN: sign, tasks, scale).
-- Grain:  document, in the shard's row order: files of a shard are joined by position, their doc_ids compared before.
-- Input:  $file     checkpoint_influence/shard-NNNNN.parquet: influence_*  (paper's sign)
--         $columns  the influence columns of the group's tasks; the mean over them is the macro mean
--         $center, $scale  normalisation constants of this checkpoint; 0 and 1 leave utilities as they are
-- Output: utility = (-mean influence - center) / scale; null where any score is null.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(file := 'shard-00000.parquet', columns := [...], center := 0, scale := 1);
WITH scores AS (
    SELECT CAST([*COLUMNS(lambda name: list_contains($columns, name))] AS DOUBLE[]) AS influences
    FROM read_parquet($file, hive_partitioning = false)
)
SELECT
    CASE
        WHEN list_count(influences) = len(influences)
        -- `0 - x`, not `-x`: a mean of zero gives 0.0 and never -0.0
        THEN (0 - list_sum(influences) / len(influences) - $center) / $scale
    END AS utility
FROM scores
