-- Which documents of one shard a group keeps (paper, section 4, Figure 3; overlap between groups stays).
-- Grain:  document, in the shard's row order, so that the groups of a shard can be laid side by side.
-- Input:  joint_shard  view of one joint_influence shard: row, doc_id, utility__GROUP
--         $snapshot, $shard  where it belongs
--         $column      utility__GROUP; $threshold  the lowest utility kept
--         $doc_id, $cut_snapshot, $cut_shard, $cut_row  the last tied document kept (tied_document.sql); null keeps all ties
-- Output: utility; null where the group does not keep the document.
-- Shell:  CREATE VIEW joint_shard AS SELECT file_row_number AS "row", * FROM read_parquet('shard-00000.parquet');
--         PREPARE q AS <this statement>;
--         EXECUTE q(snapshot := 'A', shard := 'shard-00000', "column" := 'utility__g', threshold := 0.5,
--                   doc_id := NULL, cut_snapshot := NULL, cut_shard := NULL, cut_row := NULL);
WITH documents AS (
    SELECT "row", doc_id, COLUMNS(lambda name: name = $column) AS utility
    FROM joint_shard
)
SELECT
    CASE
        WHEN utility > CAST($threshold AS DOUBLE) THEN utility
        WHEN utility = CAST($threshold AS DOUBLE) THEN CASE
            WHEN
                CAST($doc_id AS VARCHAR) IS NULL
                OR (doc_id, CAST($snapshot AS VARCHAR), CAST($shard AS VARCHAR), "row")
                <= (CAST($doc_id AS VARCHAR), CAST($cut_snapshot AS VARCHAR), CAST($cut_shard AS VARCHAR), CAST($cut_row AS BIGINT))
                THEN utility
        END
    END AS utility
FROM documents
