-- Which of the documents tied at its threshold is the last one that a group keeps: ties go by doc_id, then snapshot
-- (DESIGN: top share). The sort spills to disk.
-- Grain:  group.
-- Input:  tied_documents  table of rows of tied_documents.sql, of all shards
-- Output: group; doc_id, snapshot, shard, row of the last document kept.
-- Shell:  CREATE TABLE tied_documents AS ...; then this statement.
WITH ordered AS (
    SELECT *, row_number() OVER (PARTITION BY "group" ORDER BY doc_id, snapshot, shard, "row") AS number
    FROM tied_documents
)
SELECT "group", doc_id, snapshot, shard, "row"
FROM ordered
WHERE number = rank
