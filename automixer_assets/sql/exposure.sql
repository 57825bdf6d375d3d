-- How often each content is expected to be read: copies of a text, within or across snapshots, add up (DESIGN: duplicates).
-- Grain:  content_hash of any document in any group.
-- Input:  $files       selection files of all groups: row, n_tokens
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
--         $documents   tokenised shards: content_hash
--         $shards      [{file, snapshot, shard}]: where each of $documents belongs
--         $passes      [{group, passes}]: tokens allocated to the group / T_g
-- Output: content_hash, n_tokens (of one copy), n_groups, expected_exposures = sum over copies and groups of passes.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := [...], selections := [...], documents := [...], shards := [...], passes := [...]);
WITH selections AS (
    SELECT unnest($selections, recursive := true)
),
shards AS (
    SELECT unnest($shards, recursive := true)
),
passes AS (
    SELECT unnest($passes, recursive := true)
),
contents AS (
    SELECT snapshot, shard, file_row_number AS "row", content_hash
    FROM read_parquet($documents, hive_partitioning = false) AS documents
    JOIN shards ON shards.file = documents.filename
),
survivors AS (
    SELECT "group", snapshot, shard, "row", CAST(n_tokens AS BIGINT) AS n_tokens
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN selections ON selections.file = rows_kept.filename
),
copies AS (
    SELECT content_hash, "group", count(*) AS n_copies, max(n_tokens) AS n_tokens
    FROM survivors
    JOIN contents USING (snapshot, shard, "row")
    GROUP BY content_hash, "group"
)
SELECT
    content_hash,
    max(n_tokens) AS n_tokens,
    count(*) AS n_groups,
    sum(n_copies * passes ORDER BY "group") AS expected_exposures
FROM copies
JOIN passes USING ("group")
GROUP BY content_hash
ORDER BY content_hash
