-- What densities are made of (paper, section 5, Appendix B), one shard's part, by bucket of documents: resampling
-- buckets resamples documents, and a document is in the same bucket in every group that keeps it.
-- Grain:  group and bucket that has documents.
-- Input:  $files      one shard's selection files, one per group: row, n_tokens, utility, joint_utility
--         $groups     [{file, group}]: whose file it is
--         $first_row  number of the shard's first document, counting over all shards
--         $buckets    how many buckets, at most 2^20
-- Output: group, bucket, n_documents, n_tokens, utility_tokens (sum of I_joint s, in utility), total_tokens (sum of
--         total influence x s, Appendix B), lowest_total, highest_total.
-- The bucket is the fraction of (document number x golden ratio): neighbours never share one, and all fill evenly.
-- One thread adds up in the order of files and rows; with more, the last bit of a sum of doubles can differ.
-- Shell:  SET threads = 1; PREPARE q AS <this statement>;
--         EXECUTE q(files := ['s.parquet'], "groups" := [{'file': 's.parquet', 'group': 'g'}], first_row := 0, buckets := 512);
WITH places AS (
    SELECT unnest($groups, recursive := true)
),
kept AS (
    SELECT "group", "row", CAST(n_tokens AS BIGINT) AS n_tokens, utility, joint_utility
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN places ON places.file = rows_kept.filename
),
totals AS (
    SELECT "row", sum(utility) AS total
    FROM kept
    GROUP BY "row"
),
numbered AS (
    SELECT
        kept.*,
        total,
        -- unsigned, for 32 bits times 32 bits are 64
        (CAST(CAST($first_row AS BIGINT) + kept."row" AS UBIGINT) % 4294967296 * CAST(2654435769 AS UBIGINT) % 4294967296)
        * $buckets // 4294967296 AS bucket
    FROM kept
    JOIN totals USING ("row")
)
SELECT
    "group",
    CAST(bucket AS INTEGER) AS bucket,
    count(*) AS n_documents,
    CAST(sum(n_tokens) AS BIGINT) AS n_tokens,
    fsum(joint_utility * n_tokens) AS utility_tokens,
    fsum(total * n_tokens) AS total_tokens,
    min(total) AS lowest_total,
    max(total) AS highest_total
FROM numbered
GROUP BY "group", bucket
ORDER BY "group", bucket
