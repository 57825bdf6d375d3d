-- Documents that no group can rank: a utility that is null, NaN or infinite (a guard before regrouping).
-- Grain:  document and column; the first one only.
-- Input:  $files  joint_influence shards: doc_id, n_tokens, utility__GROUP ..., joint_utility
--         $partial_groups  whether a null utility only says that the document is no candidate of that group
-- Output: file, row, doc_id, column_name; no row when everything can be ranked.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := ['shard-00000.parquet'], partial_groups := false);
WITH documents AS (
    SELECT
        filename AS file,
        file_row_number AS "row",
        doc_id,
        COLUMNS('^(utility__.*|joint_utility)$')
    FROM read_parquet($files, hive_partitioning = false)
),
utilities AS (
    SELECT file, "row", doc_id, column_name, utility
    FROM documents
    UNPIVOT INCLUDE NULLS (utility FOR column_name IN (COLUMNS('^(utility__.*|joint_utility)$')))
)
SELECT file, "row", doc_id, column_name
FROM utilities
WHERE
    (utility IS NULL AND NOT ($partial_groups AND column_name <> 'joint_utility'))
    OR NOT isfinite(utility)
ORDER BY file, "row", column_name
LIMIT 1
