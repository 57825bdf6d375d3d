-- How many documents of each group, and of the corpus, repeat scored benchmark items, by source (DESIGN: leakage).
-- Grain:  group (null: the corpus) and source: the dump, or else the snapshot.
-- Input:  $files       selection files of all groups: row
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
--         $documents   tokenised shards: dump, n_tokens
--         $shards      [{file, snapshot, shard}]: where each of $documents belongs
--         $flags       leakage shards: n_ngrams
--         $flag_shards [{file, snapshot, shard}]: where each of $flags belongs
-- Output: group, source, n_documents, n_leaked, leaked_tokens.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := [...], selections := [...], documents := [...], shards := [...], flags := [...], flag_shards := [...]);
WITH selections AS (
    SELECT unnest($selections, recursive := true)
),
shards AS (
    SELECT unnest($shards, recursive := true)
),
flag_shards AS (
    SELECT unnest($flag_shards, recursive := true)
),
flags AS (
    SELECT snapshot, shard, file_row_number AS "row", n_ngrams > 0 AS leaked
    FROM read_parquet($flags, hive_partitioning = false) AS rows_flagged
    JOIN flag_shards ON flag_shards.file = rows_flagged.filename
),
documents AS (
    SELECT snapshot, shard, "row", source, n_tokens, leaked
    FROM (
        SELECT snapshot, shard, file_row_number AS "row", coalesce(dump, snapshot) AS source, n_tokens
        FROM read_parquet($documents, hive_partitioning = false) AS rows_read
        JOIN shards ON shards.file = rows_read.filename
    )
    JOIN flags USING (snapshot, shard, "row")
),
members AS (
    SELECT "group", snapshot, shard, "row"
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN selections ON selections.file = rows_kept.filename
    UNION ALL
    SELECT NULL AS "group", snapshot, shard, "row"
    FROM documents
)
SELECT
    "group",
    source,
    count(*) AS n_documents,
    count(*) FILTER (leaked) AS n_leaked,
    CAST(coalesce(sum(n_tokens) FILTER (leaked), 0) AS BIGINT) AS leaked_tokens
FROM members
JOIN documents USING (snapshot, shard, "row")
GROUP BY "group", source
ORDER BY "group", source
