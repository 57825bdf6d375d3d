-- End of the way to an exact threshold: the utility at a rank within one bucket of utility_histogram.sql (DESIGN: top share).
-- Grain:  one row.
-- Input:  bucket_utilities  view of rows of bucket_utilities.sql; parts may repeat a utility
--         $rank  1 is the highest utility of the bucket
-- Output: utility, n_above (documents of the bucket above it), n_tied (documents with just that utility).
-- Shell:  CREATE VIEW bucket_utilities AS FROM ...; PREPARE q AS <this statement>; EXECUTE q(rank := 10);
WITH distinct_utilities AS (
    SELECT utility, CAST(sum(n_documents) AS BIGINT) AS n_tied
    FROM bucket_utilities
    GROUP BY utility
),
ranked AS (
    SELECT utility, n_tied, CAST(sum(n_tied) OVER (ORDER BY utility DESC) AS BIGINT) - n_tied AS n_above
    FROM distinct_utilities
)
SELECT utility, n_above, n_tied
FROM ranked
WHERE n_above < $rank AND $rank <= n_above + n_tied
