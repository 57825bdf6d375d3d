-- Documents of a snapshot whose text an earlier document has: they are not scored again (DESIGN: duplicates).
-- Grain:  document that is a copy; the first of equal texts, by shard and row, is none.
-- Input:  $files   tokenised shards of one snapshot: content_hash, n_tokens
--         $shards  [{file, shard}]: the name of each of $files
-- Output: shard, row, n_tokens, first_shard, first_row (where the first of them lies); by shard and row.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := ['a.parquet'], shards := [{'file': 'a.parquet', 'shard': 'shard-00000'}]);
WITH shards AS (
    SELECT unnest($shards, recursive := true)
),
documents AS (
    SELECT shard, file_row_number AS "row", content_hash, CAST(n_tokens AS BIGINT) AS n_tokens
    FROM read_parquet($files, hive_partitioning = false) AS rows_read
    JOIN shards ON shards.file = rows_read.filename
),
firsts AS (
    SELECT content_hash, min((shard, "row")) AS place
    FROM documents
    GROUP BY content_hash
    HAVING count(*) > 1
)
SELECT shard, "row", n_tokens, place[1] AS first_shard, place[2] AS first_row
FROM documents
JOIN firsts USING (content_hash)
WHERE (shard, "row") <> place
ORDER BY shard, "row"
