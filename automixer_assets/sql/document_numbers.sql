-- Length and quality of each group's documents, and of the corpus.
-- Grain:  group (null: the corpus) and column.
-- Input:  $files       selection files of all groups: row
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
--         $documents   tokenised shards: n_tokens, n_characters, score, int_score, language_score
--         $shards      [{file, snapshot, shard}]: where each of $documents belongs
-- Output: group, column_name, n_documents (with a finite value), mean, sd (of the population).
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := [...], selections := [...], documents := [...], shards := [...]);
WITH selections AS (
    SELECT unnest($selections, recursive := true)
),
shards AS (
    SELECT unnest($shards, recursive := true)
),
documents AS (
    SELECT
        snapshot,
        shard,
        file_row_number AS "row",
        CAST(n_tokens AS DOUBLE) AS n_tokens,
        CAST(n_characters AS DOUBLE) AS n_characters,
        CAST(score AS DOUBLE) AS score,
        CAST(int_score AS DOUBLE) AS int_score,
        CAST(language_score AS DOUBLE) AS language_score
    FROM read_parquet($documents, hive_partitioning = false) AS rows_read
    JOIN shards ON shards.file = rows_read.filename
),
members AS (
    SELECT "group", snapshot, shard, "row"
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN selections ON selections.file = rows_kept.filename
    UNION ALL
    SELECT NULL AS "group", snapshot, shard, "row"
    FROM documents
),
member_documents AS (
    SELECT "group", n_tokens, n_characters, score, int_score, language_score
    FROM members
    JOIN documents USING (snapshot, shard, "row")
),
numbers AS (
    SELECT "group", column_name, value
    FROM member_documents
    UNPIVOT (value FOR column_name IN (n_tokens, n_characters, score, int_score, language_score))
    WHERE isfinite(value)
)
SELECT "group", column_name, count(*) AS n_documents, favg(value) AS mean, stddev_pop(value) AS sd
FROM numbers
GROUP BY "group", column_name
ORDER BY "group", column_name
