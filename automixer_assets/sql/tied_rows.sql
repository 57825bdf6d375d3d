-- Documents tied at a group's threshold, of which it keeps only some: their ids decide (tied_documents.sql).
-- Grain:  document.
-- Input:  $files   joint_influence shards
--         $group   name of the group; $column  its utilities; $utility  the threshold
--         $rank    how many of the tied documents are kept (DESIGN: top share)
-- Output: group, rank, file, row.
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(files := ['a.parquet'], "group" := 'g', "column" := 'utility__g', utility := 0.51, rank := 3);
WITH documents AS (
    SELECT filename AS file, file_row_number AS "row", COLUMNS(lambda name: name = $column) AS utility
    FROM read_parquet($files, hive_partitioning = false)
)
SELECT CAST($group AS VARCHAR) AS "group", CAST($rank AS BIGINT) AS rank, file, "row"
FROM documents
WHERE utility = CAST($utility AS DOUBLE)
