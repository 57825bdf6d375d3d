-- First pass to an exact threshold: how many documents have a utility in which bucket (DESIGN: top share).
-- The bits of a double, those of negative numbers flipped, are an integer that orders as the doubles do. Its upper bits
-- are the bucket, so counts of shards add up and memory depends on the number of buckets, not on that of documents.
-- Grain:  bucket, highest utilities first; what is no finite number is in no bucket.
-- Input:  $files    joint_influence shards
--         $column   a column of utilities
--         $lowest, $highest  only utilities between them, both included; '-inf' and 'inf' for all
--         $shift    how many of the 64 bits to drop; 48 makes 16 buckets per power of two
-- Output: bucket (its number at that shift), lowest, highest utility in it, n_documents.
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(files := ['a.parquet'], "column" := 'utility__g', lowest := '-inf', highest := 'inf', shift := 48);
WITH utilities AS (
    -- `+ 0` turns -0.0, whose bits differ, into 0.0
    SELECT COLUMNS(lambda name: name = $column) + 0 AS utility
    FROM read_parquet($files, hive_partitioning = false)
),
bits AS (
    SELECT utility, CAST(CAST(utility AS BIT) AS BIGINT) AS bits
    FROM utilities
    WHERE
        utility BETWEEN CAST($lowest AS DOUBLE) AND CAST($highest AS DOUBLE)
        AND isfinite(utility)  -- a file's statistics leave NaN out, and DuckDB drops a range that they satisfy
)
SELECT
    CASE WHEN bits < 0 THEN xor(bits, 9223372036854775807) ELSE bits END >> $shift AS bucket,
    min(utility) AS lowest,
    max(utility) AS highest,
    count(*) AS n_documents
FROM bits
GROUP BY bucket
ORDER BY highest DESC
