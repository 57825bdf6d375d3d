-- Utilities of the documents that two mixtures have in common, side by side (paper, Figure 6).
-- Grain:  document of one snapshot that both have scored, by id and snapshot.
-- Input:  $first, $second  joint_influence shards of either: doc_id, utility__GROUP ..., joint_utility
--         $first_shards, $second_shards  [{file, snapshot}]: where each of them belongs
--         $highest_draw  only documents whose id's hash is at most this, of 2^64: a sample that is always the same
-- Output: first__utility__GROUP ..., first__joint_utility, the same under second__; by doc_id and snapshot.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q("first" := ['a.parquet'], "second" := ['b.parquet'],
--                  first_shards := [{'file': 'a.parquet', 'snapshot': 'A'}],
--                  second_shards := [{'file': 'b.parquet', 'snapshot': 'A'}], highest_draw := 18446744073709551615);
WITH first_shards AS (
    SELECT unnest($first_shards, recursive := true)
),
second_shards AS (
    SELECT unnest($second_shards, recursive := true)
),
first_scores AS (
    SELECT snapshot, doc_id, COLUMNS('^(utility__.*|joint_utility)$') AS 'first__\1'
    FROM read_parquet($first, hive_partitioning = false) AS rows_read
    JOIN first_shards ON first_shards.file = rows_read.filename
    WHERE md5_number_upper(doc_id) <= CAST($highest_draw AS UBIGINT)
),
second_scores AS (
    SELECT snapshot, doc_id, COLUMNS('^(utility__.*|joint_utility)$') AS 'second__\1'
    FROM read_parquet($second, hive_partitioning = false) AS rows_read
    JOIN second_shards ON second_shards.file = rows_read.filename
    WHERE md5_number_upper(doc_id) <= CAST($highest_draw AS UBIGINT)
)
SELECT COLUMNS('^(first|second)__')
FROM first_scores
JOIN second_scores USING (snapshot, doc_id)
ORDER BY doc_id, snapshot
