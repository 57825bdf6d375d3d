-- The contents that are read most, and where the first document with that text lies (DESIGN: duplicates).
-- Grain:  content, at most $limit.
-- Input:  $file       exposure.parquet
--         $documents  tokenised shards: content_hash, doc_id
--         $shards     [{file, snapshot, shard}]: where each of $documents belongs
--         $limit      how many
-- Output: expected_exposures, n_groups, n_copies, snapshot, shard, row, doc_id, content_hash; most exposed first.
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(file := 'exposure.parquet', documents := [...], shards := [...], "limit" := 20);
WITH shards AS (
    SELECT unnest($shards, recursive := true)
),
most_read AS (
    SELECT expected_exposures, n_groups, n_copies, content_hash
    FROM read_parquet($file, hive_partitioning = false)
    ORDER BY expected_exposures DESC, content_hash
    LIMIT $limit
),
places AS (
    SELECT content_hash, min((snapshot, shard, file_row_number, doc_id)) AS place
    FROM read_parquet($documents, hive_partitioning = false) AS documents
    JOIN shards ON shards.file = documents.filename
    SEMI JOIN most_read USING (content_hash)
    GROUP BY content_hash
)
SELECT
    expected_exposures,
    n_groups,
    n_copies,
    place[1] AS snapshot,
    place[2] AS shard,
    place[3] AS "row",
    place[4] AS doc_id,
    content_hash
FROM most_read
JOIN places USING (content_hash)
ORDER BY expected_exposures DESC, content_hash
