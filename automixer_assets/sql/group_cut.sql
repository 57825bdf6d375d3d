-- The last document that a group keeps (paper, section 4: per checkpoint keep the top 50 %; DESIGN: top share).
-- Documents rank by utility, highest first; ties by doc_id, then snapshot, ascending. Exactly $keep documents rank
-- at or before the cut. Only one column of numbers is sorted over the union, and that sort spills to disk;
-- doc_ids are sorted among the documents tied at the threshold alone.
-- Grain:  one row.
-- Input:  $files   joint_influence shards: doc_id, utility__GROUP
--         $shards  [{file, snapshot, shard}]: where each of $files belongs
--         $group   the group; $keep  how many documents it keeps, at least 1
-- Output: group, utility (the threshold), doc_id, snapshot, shard, row of the last document kept.
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(files := ['a.parquet'], shards := [{'file': 'a.parquet', 'snapshot': 'A', 'shard': 'shard-00000'}], "group" := 'g', keep := 10);
WITH shards AS (
    SELECT unnest($shards, recursive := true)
),
candidates AS NOT MATERIALIZED (
    SELECT
        filename,
        file_row_number AS "row",
        doc_id,
        COLUMNS(lambda name: name = 'utility__' || $group) AS utility
    FROM read_parquet($files, hive_partitioning = false)
),
threshold AS MATERIALIZED (
    SELECT utility
    FROM candidates
    ORDER BY utility DESC
    LIMIT 1 OFFSET (SELECT $keep - 1)
),
above AS (
    SELECT count(*) AS n_documents
    FROM candidates, threshold
    WHERE candidates.utility > threshold.utility
),
ties AS (
    SELECT candidates.utility, doc_id, snapshot, shard, "row"
    FROM candidates
    CROSS JOIN threshold
    JOIN shards ON shards.file = candidates.filename
    WHERE candidates.utility = threshold.utility
)
SELECT $group AS "group", utility, doc_id, snapshot, shard, "row"
FROM ties
ORDER BY doc_id, snapshot, shard, "row"
LIMIT 1 OFFSET (SELECT $keep - 1 - n_documents FROM above)
