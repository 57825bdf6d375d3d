-- Documents whose text an earlier document of the mixture has, by snapshot, shard and row (DESIGN: duplicates).
-- Grain:  document that is a copy; the first of equal texts is none.
-- Input:  removed     view: snapshot, shard, row of documents that take no part, so that a copy of them may stay
--         $documents  tokenised shards: content_hash, doc_id
--         $shards     [{file, snapshot, shard}]: where each of $documents belongs
-- Output: snapshot, shard, row, doc_id; in that order.
-- Shell:  CREATE VIEW removed AS FROM ...; PREPARE q AS <this statement>; EXECUTE q(documents := [...], shards := [...]);
WITH shards AS (
    SELECT unnest($shards, recursive := true)
),
documents AS (
    SELECT snapshot, shard, file_row_number AS "row", doc_id, content_hash
    FROM read_parquet($documents, hive_partitioning = false) AS rows_read
    JOIN shards ON shards.file = rows_read.filename
),
candidates AS (
    FROM documents
    ANTI JOIN removed USING (snapshot, shard, "row")
),
firsts AS (
    SELECT content_hash, min((snapshot, shard, "row")) AS place
    FROM candidates
    GROUP BY content_hash
    HAVING count(*) > 1
)
SELECT snapshot, shard, "row", doc_id
FROM candidates
JOIN firsts USING (content_hash)
WHERE (snapshot, shard, "row") <> place
ORDER BY snapshot, shard, "row"
