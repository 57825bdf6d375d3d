-- Documents of one shard that each group keeps (paper, section 4, Figure 3; overlap between groups stays).
-- Grain:  group and document, in the shard's row order within a group.
-- Input:  $file            one joint_influence shard: doc_id, n_tokens, utility__GROUP ..., joint_utility
--         $snapshot, $shard  where it belongs
--         $cuts            [{group, utility, doc_id, snapshot, shard, row}]: rows of group_cut.sql
-- Output: group, row, doc_id, n_tokens, utility, joint_utility.
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(file := 'a.parquet', snapshot := 'A', shard := 'shard-00000', cuts := [{'group': 'g', ...}]);
WITH cuts AS (
    SELECT unnest($cuts, recursive := true)
),
documents AS (
    SELECT
        file_row_number AS "row",
        doc_id,
        n_tokens,
        joint_utility,
        COLUMNS('^utility__')
    FROM read_parquet($file, hive_partitioning = false)
),
utilities AS (
    SELECT substr(name, length('utility__') + 1) AS "group", "row", doc_id, n_tokens, utility, joint_utility
    FROM documents
    UNPIVOT (utility FOR name IN (COLUMNS('^utility__')))
)
SELECT
    "group",
    utilities."row",
    utilities.doc_id,
    CAST(utilities.n_tokens AS BIGINT) AS n_tokens,
    utilities.utility,
    utilities.joint_utility
FROM utilities
JOIN cuts USING ("group")
WHERE
    utilities.utility > cuts.utility
    OR (
        utilities.utility = cuts.utility
        AND (utilities.doc_id, $snapshot, $shard, utilities."row") <= (cuts.doc_id, cuts.snapshot, cuts.shard, cuts."row")
    )
ORDER BY "group", utilities."row"
