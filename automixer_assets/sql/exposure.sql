-- How often each content is expected to be read: copies of a text, within or across snapshots, add up (DESIGN: duplicates).
-- Grain:  content_hash of any document in any group, those that nobody reads too.
-- Input:  $files       selection files of all groups: row, n_tokens
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
--         $unread      those of $files whose documents are left out of their group's sample (DESIGN: over budget)
--         $documents   tokenised shards: content_hash
--         $shards      [{file, snapshot, shard}]: where each of $documents belongs
--         $passes      [{group, passes}]: how often a document of the group is read
-- Output: content_hash, n_tokens (of one copy), n_groups, n_copies (in that group which holds most),
--         in_several_snapshots, expected_exposures = sum over copies and groups of passes.
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(files := [...], selections := [...], unread := [], documents := [...], shards := [...], passes := [...]);
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
    SELECT
        "group",
        snapshot,
        shard,
        "row",
        CAST(n_tokens AS BIGINT) AS n_tokens,
        NOT list_contains(CAST($unread AS VARCHAR[]), filename) AS is_read
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN selections ON selections.file = rows_kept.filename
),
copies AS (
    SELECT
        content_hash,
        "group",
        count(*) AS n_copies,
        count(*) FILTER (is_read) AS n_read,
        max(n_tokens) AS n_tokens,
        min(snapshot) AS first_snapshot,
        max(snapshot) AS last_snapshot
    FROM survivors
    JOIN contents USING (snapshot, shard, "row")
    GROUP BY content_hash, "group"
)
SELECT
    content_hash,
    max(n_tokens) AS n_tokens,
    count(*) AS n_groups,
    max(n_copies) AS n_copies,
    min(first_snapshot) <> max(last_snapshot) AS in_several_snapshots,
    sum(n_read * passes ORDER BY "group") AS expected_exposures
FROM copies
JOIN passes USING ("group")
GROUP BY content_hash
ORDER BY content_hash
