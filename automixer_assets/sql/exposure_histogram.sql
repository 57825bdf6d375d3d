-- How many contents, and how many of their tokens, are expected to be read how often.
-- Grain:  bin: lower <= expected_exposures < upper; the last bin has no upper end.
-- Input:  $file   exposure.parquet: n_tokens, expected_exposures
--         $edges  lower ends of the bins, ascending, the first of them 0
-- Output: lower, upper (null for the last), n_contents, n_tokens; every bin, empty ones too.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(file := 'exposure.parquet', edges := [0, 1, 2, 4]);
WITH edges AS (
    SELECT unnest(CAST($edges AS DOUBLE[])) AS lower
),
bins AS (
    SELECT lower, lead(lower) OVER (ORDER BY lower) AS upper
    FROM edges
)
SELECT
    lower,
    upper,
    count(expected_exposures) AS n_contents,
    CAST(coalesce(sum(n_tokens), 0) AS BIGINT) AS n_tokens
FROM bins
LEFT JOIN read_parquet($file, hive_partitioning = false) AS contents
    ON expected_exposures >= lower AND (upper IS NULL OR expected_exposures < upper)
GROUP BY lower, upper
ORDER BY lower
