-- Documents of the corpus in the order of a hash of their ids, the first of them: a sample that is always the same.
-- Grain:  document.
-- Input:  $documents  tokenised shards: doc_id
--         $shards     [{file, snapshot, shard}]: where each of $documents belongs
--         $n          how many
-- Output: snapshot, shard, row; by place.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(documents := [...], shards := [...], n := 1000);
WITH shards AS (
    SELECT unnest($shards, recursive := true)
),
chosen AS (
    SELECT snapshot, shard, file_row_number AS "row"
    FROM read_parquet($documents, hive_partitioning = false) AS rows_read
    JOIN shards ON shards.file = rows_read.filename
    ORDER BY md5(doc_id), snapshot, shard, "row"
    LIMIT $n
)
SELECT snapshot, shard, "row"
FROM chosen
ORDER BY snapshot, shard, "row"
