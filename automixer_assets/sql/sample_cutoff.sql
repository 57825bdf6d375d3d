-- Second pass to the cutoff of a sample: the last key that is needed, within one bucket of sample_key_histogram.sql
-- (DESIGN: over budget).
-- Grain:  one row.
-- Input:  $files  sample_key, n_tokens
--         $lowest, $highest  the bucket, both ends included
--         $n_tokens  so many tokens of the bucket are needed, smallest keys first
-- Output: sample_key (the smallest that reaches them), next_key (null at the bucket's end),
--         n_documents, n_tokens of the bucket up to that key.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := ['a.parquet'], lowest := 0.5, highest := 0.53, n_tokens := 10);
WITH distinct_keys AS (
    SELECT sample_key, count(*) AS n_tied, sum(n_tokens) AS tied_tokens
    FROM read_parquet($files, hive_partitioning = false)
    WHERE sample_key BETWEEN CAST($lowest AS DOUBLE) AND CAST($highest AS DOUBLE)
    GROUP BY sample_key
),
totals AS (
    SELECT
        sample_key,
        lead(sample_key) OVER (ORDER BY sample_key) AS next_key,
        CAST(sum(n_tied) OVER (ORDER BY sample_key) AS BIGINT) AS n_documents,
        CAST(sum(tied_tokens) OVER (ORDER BY sample_key) AS BIGINT) AS n_tokens
    FROM distinct_keys
)
SELECT sample_key, next_key, n_documents, n_tokens
FROM totals
WHERE n_tokens >= $n_tokens
ORDER BY sample_key
LIMIT 1
