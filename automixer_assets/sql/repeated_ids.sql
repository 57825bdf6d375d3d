-- Document ids that occur more than once in a snapshot: all but the first are quarantined (DESIGN: duplicates).
-- Grain:  id.
-- Input:  $files  Parquet files of one snapshot: id
-- Output: id. A folder named `id=7` is no id of its rows, so names of folders are not read as columns.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := ['000_00000.parquet']);
SELECT id
FROM read_parquet($files, hive_partitioning = false)
WHERE id IS NOT NULL
GROUP BY id
HAVING count(*) > 1
