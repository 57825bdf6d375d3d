-- Does a utility find the documents that ought to be found (DESIGN: planted documents)?
-- Grain:  column of utilities.
-- Input:  $files    joint_influence shards: doc_id, utility__GROUP ..., joint_utility
--         $tops     [{column_name, n_top}]: how many documents its top share is
--         $planted  the labels of documents that ought to be found
--         labels    view: doc_id, label; no document twice
-- Output: column_name, n_documents, n_planted, n_top, auc (how often a planted document is above another, ties half;
--         null where a side is empty), n_planted_top (planted documents in the top share; of those tied at its end the
--         part that any order among them is expected to give).
-- Shell:  CREATE VIEW labels AS SELECT 'd' AS doc_id, 'planted' AS label; PREPARE q AS <this statement>;
--         EXECUTE q(files := ['a.parquet'], tops := [{'column_name': 'joint_utility', 'n_top': 5}], planted := ['planted']);
WITH tops AS (
    SELECT unnest($tops, recursive := true)
),
documents AS (
    SELECT doc_id, COLUMNS('^(utility__.*|joint_utility)$')
    FROM read_parquet($files, hive_partitioning = false)
),
utilities AS (
    SELECT doc_id, column_name, utility
    FROM documents
    UNPIVOT (utility FOR column_name IN (COLUMNS('^(utility__.*|joint_utility)$')))
),
counts AS (
    SELECT
        column_name,
        utility,
        count(*) AS n_tied,
        count(*) FILTER (list_contains($planted, label)) AS n_planted
    FROM utilities
    LEFT JOIN labels USING (doc_id)
    GROUP BY column_name, utility
),
ranked AS (
    SELECT
        column_name,
        n_tied,
        n_planted,
        sum(n_tied) OVER (PARTITION BY column_name ORDER BY utility DESC) - n_tied AS n_above,
        sum(n_tied - n_planted) OVER (PARTITION BY column_name ORDER BY utility) - (n_tied - n_planted) AS n_others_below
    FROM counts
)
SELECT
    column_name,
    CAST(sum(n_tied) AS BIGINT) AS n_documents,
    CAST(sum(n_planted) AS BIGINT) AS n_planted,
    CAST(any_value(n_top) AS BIGINT) AS n_top,
    sum(n_planted * (n_others_below + (n_tied - n_planted) / 2))
    / nullif(CAST(sum(n_planted) AS DOUBLE) * sum(n_tied - n_planted), 0) AS auc,
    sum(n_planted * greatest(0, least(n_tied, n_top - n_above)) / n_tied) AS n_planted_top
FROM ranked
JOIN tops USING (column_name)
GROUP BY column_name
ORDER BY column_name
