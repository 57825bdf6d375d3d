-- The exposure ledger in one row.
-- Grain:  one row.
-- Input:  $file  exposure.parquet: n_groups, n_copies, in_several_snapshots, expected_exposures
-- Output: n_contents, max_exposures, mean_exposures, n_unread, n_in_several_groups, n_with_copies (in one group),
--         n_in_several_snapshots.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(file := 'exposure.parquet');
SELECT
    count(*) AS n_contents,
    coalesce(max(expected_exposures), 0) AS max_exposures,
    coalesce(favg(expected_exposures ORDER BY content_hash), 0) AS mean_exposures,
    count(*) FILTER (expected_exposures = 0) AS n_unread,
    count(*) FILTER (n_groups > 1) AS n_in_several_groups,
    count(*) FILTER (n_copies > 1) AS n_with_copies,
    count(*) FILTER (in_several_snapshots) AS n_in_several_snapshots
FROM read_parquet($file, hive_partitioning = false)
