-- First pass to the cutoff of a sample: how many tokens have a key in which bucket (DESIGN: over budget).
-- Keys are positive, so their bits are integers in the keys' order; the upper bits are the bucket.
-- Grain:  bucket, lowest keys first.
-- Input:  $files  sample_key, n_tokens
--         $lowest, $highest  only keys between them, both included
--         $shift  how many of the 64 bits to drop; 48 makes 16 buckets per power of two
-- Output: lowest, highest key in the bucket, n_documents, n_tokens.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := ['a.parquet'], lowest := 0, highest := 'inf', shift := 48);
SELECT
    min(sample_key) AS lowest,
    max(sample_key) AS highest,
    count(*) AS n_documents,
    CAST(sum(n_tokens) AS BIGINT) AS n_tokens
FROM read_parquet($files, hive_partitioning = false)
WHERE sample_key BETWEEN CAST($lowest AS DOUBLE) AND CAST($highest AS DOUBLE)
GROUP BY CAST(CAST(sample_key AS BIT) AS BIGINT) >> $shift
ORDER BY lowest
