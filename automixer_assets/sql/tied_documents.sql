-- Documents tied at their group's threshold, with all that orders them (last_tied_documents.sql, DESIGN: top share). The
-- only pass over doc_ids before groups are written, one for all groups. The join spills to disk, so even a corpus of equal
-- utilities needs no more memory.
-- Grain:  group and document.
-- Input:  tied_rows  table of rows of tied_rows.sql, for every group that has to cut among ties
--         $files     joint_influence shards: doc_id
--         $shards    [{file, snapshot, shard}]: where each of $files belongs
-- Output: group, rank, doc_id, snapshot, shard, row.
-- Shell:  CREATE TABLE tied_rows AS ...; PREPARE q AS <this statement>;
--         EXECUTE q(files := ['a.parquet'], shards := [{'file': 'a.parquet', 'snapshot': 'A', 'shard': 'shard-00000'}]);
WITH shards AS (
    SELECT unnest($shards, recursive := true)
),
documents AS (
    SELECT filename AS file, file_row_number AS "row", doc_id
    FROM read_parquet($files, hive_partitioning = false)
)
SELECT "group", rank, doc_id, snapshot, shard, "row"
FROM documents
JOIN tied_rows USING (file, "row")
JOIN shards USING (file)
