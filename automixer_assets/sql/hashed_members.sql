-- Documents of one group in the order of a seeded hash of their ids, the first of them: a sample that other documents
-- joining the group hardly change, and that overlapping groups share where they share documents.
-- Grain:  document.
-- Input:  $files       selection files of the group: row, doc_id, n_tokens
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
--         $seed        any text; $n  how many
-- Output: snapshot, shard, row, n_tokens, key (the hash), n_members (documents of the group); in the order of the hash.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := [...], selections := [...], seed := '0', n := 512);
WITH selections AS (
    SELECT unnest($selections, recursive := true)
),
members AS (
    SELECT snapshot, shard, "row", n_tokens, md5(concat(CAST($seed AS VARCHAR), doc_id)) AS key
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN selections ON selections.file = rows_kept.filename
)
SELECT snapshot, shard, "row", n_tokens, key, (SELECT count(*) FROM members) AS n_members
FROM members
ORDER BY key, snapshot, shard, "row"
LIMIT $n
