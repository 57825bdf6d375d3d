-- Which of the documents tied at a threshold is the last one kept: ties go by doc_id, then snapshot (DESIGN: top share).
-- The only sort over doc_ids; it spills to disk, so even a corpus of equal utilities needs no more memory.
-- Grain:  one row.
-- Input:  $files    joint_influence shards: doc_id
--         $shards   [{file, snapshot, shard}]: where each of $files belongs
--         $column   a column of utilities; $utility  the threshold
--         $rank     how many of the tied documents are kept
-- Output: doc_id, snapshot, shard, row of the last of them.
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(files := ['a.parquet'], shards := [{'file': 'a.parquet', 'snapshot': 'A', 'shard': 'shard-00000'}],
--                   "column" := 'utility__g', utility := 0.51, rank := 3);
WITH shards AS (
    SELECT unnest($shards, recursive := true)
),
documents AS (
    SELECT filename, file_row_number AS "row", doc_id, COLUMNS(lambda name: name = $column) AS utility
    FROM read_parquet($files, hive_partitioning = false)
)
SELECT doc_id, snapshot, shard, "row"
FROM documents
JOIN shards ON shards.file = documents.filename
WHERE utility = CAST($utility AS DOUBLE)
ORDER BY doc_id, snapshot, shard, "row"
LIMIT 1 OFFSET (SELECT $rank - 1)
