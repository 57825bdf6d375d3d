-- Which groups hold the same text, and in how many copies: what limits on reading a document depend on (DESIGN: budget and caps).
-- Grain:  different case: groups with a number of copies each.
-- Input:  $files       selection files of all groups: row
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
--         $documents   tokenised shards: content_hash
--         $shards      [{file, snapshot, shard}]: where each of $documents belongs
-- Output: copies [{group, n_copies}], n_contents; the most frequent case first.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := [...], selections := [...], documents := [...], shards := [...]);
WITH selections AS (
    SELECT unnest($selections, recursive := true)
),
shards AS (
    SELECT unnest($shards, recursive := true)
),
contents AS (
    SELECT snapshot, shard, file_row_number AS "row", content_hash
    FROM read_parquet($documents, hive_partitioning = false) AS documents
    JOIN shards ON shards.file = documents.filename
),
survivors AS (
    SELECT "group", snapshot, shard, "row"
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN selections ON selections.file = rows_kept.filename
),
copies AS (
    SELECT content_hash, "group", count(*) AS n_copies
    FROM survivors
    JOIN contents USING (snapshot, shard, "row")
    GROUP BY content_hash, "group"
),
cases AS (
    SELECT list({'group': "group", 'n_copies': n_copies} ORDER BY "group") AS copies
    FROM copies
    GROUP BY content_hash
)
SELECT copies, count(*) AS n_contents
FROM cases
GROUP BY copies
ORDER BY n_contents DESC, copies
