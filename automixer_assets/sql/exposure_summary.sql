-- The exposure ledger in one row.
-- Grain:  one row.
-- Input:  $file  exposure.parquet: n_groups, expected_exposures
-- Output: n_contents, max_exposures, mean_exposures, n_in_several_groups.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(file := 'exposure.parquet');
SELECT
    count(*) AS n_contents,
    coalesce(max(expected_exposures), 0) AS max_exposures,
    coalesce(favg(expected_exposures ORDER BY content_hash), 0) AS mean_exposures,
    count(*) FILTER (n_groups > 1) AS n_in_several_groups
FROM read_parquet($file, hive_partitioning = false)
