-- Which documents of a sample are in which groups.
-- Grain:  group and document.
-- Input:  sample       view: document (its number), snapshot, shard, row
--         $files       selection files of all groups: row
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
-- Output: group, document; sorted.
-- Shell:  CREATE VIEW sample AS FROM ...; PREPARE q AS <this statement>; EXECUTE q(files := [...], selections := [...]);
WITH selections AS (
    SELECT unnest($selections, recursive := true)
),
members AS (
    SELECT "group", snapshot, shard, "row"
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN selections ON selections.file = rows_kept.filename
)
SELECT "group", document
FROM members
JOIN sample USING (snapshot, shard, "row")
ORDER BY "group", document
