-- A few documents of one group for a person to read: those of highest utility, and some in the order of a hash of ids.
-- Grain:  document and how it was chosen.
-- Input:  $files       selection files of the group: row, doc_id, n_tokens, utility
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
--         $n_best, $n_any  how many of each
-- Output: chosen_by (`utility`, `hash`), rank, snapshot, shard, row, doc_id, n_tokens, utility.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := [...], selections := [...], n_best := 2, n_any := 3);
WITH selections AS (
    SELECT unnest($selections, recursive := true)
),
members AS (
    SELECT snapshot, shard, "row", doc_id, n_tokens, utility
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN selections ON selections.file = rows_kept.filename
),
best AS (
    SELECT *
    FROM members
    ORDER BY utility DESC, doc_id, snapshot
    LIMIT $n_best
),
any_of_them AS (
    SELECT *
    FROM members
    ORDER BY md5(doc_id), doc_id, snapshot
    LIMIT $n_any
)
SELECT 'utility' AS chosen_by, row_number() OVER (ORDER BY utility DESC, doc_id, snapshot) AS rank, *
FROM best
UNION ALL
SELECT 'hash' AS chosen_by, row_number() OVER (ORDER BY md5(doc_id), doc_id, snapshot) AS rank, *
FROM any_of_them
ORDER BY chosen_by DESC, rank
