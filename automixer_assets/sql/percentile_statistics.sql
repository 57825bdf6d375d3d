-- Tokens and quality by range of joint utility (paper, Table 4).
-- Grain:  range, the least useful documents first.
-- Input:  range_sums  view of rows of percentile_ranges.sql, one per shard and range, and `position` of the shard
--         $ranges     [{range, lower, upper}]
-- Output: range, lower (null for the first), upper, n_documents, mean_tokens, sum_tokens, mean_language_score, mean_score, mean_int_score;
--         a mean is null where there is nothing to average.
-- Shell:  CREATE VIEW range_sums AS FROM ...; PREPARE q AS <this statement>; EXECUTE q(ranges := [...]);
WITH ranges AS (
    SELECT unnest($ranges, recursive := true)
)
SELECT
    range,
    nullif(any_value(CAST(lower AS DOUBLE)), CAST('-inf' AS DOUBLE)) AS lower,
    any_value(CAST(upper AS DOUBLE)) AS upper,
    CAST(sum(n_documents) AS BIGINT) AS n_documents,
    sum(n_tokens) / nullif(sum(n_documents), 0) AS mean_tokens,
    CAST(sum(n_tokens) AS BIGINT) AS sum_tokens,
    fsum(language_score ORDER BY position) / nullif(sum(n_language_score), 0) AS mean_language_score,
    fsum(score ORDER BY position) / nullif(sum(n_score), 0) AS mean_score,
    fsum(int_score ORDER BY position) / nullif(sum(n_int_score), 0) AS mean_int_score
FROM range_sums
JOIN ranges USING (range)
GROUP BY range
ORDER BY range
