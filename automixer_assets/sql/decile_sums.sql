-- Documents of one shard by decile of utility, source and label, with length and quality (paper, Figure 5). Shards add up.
-- Grain:  column of utilities, decile, source and label that some document has.
-- Input:  $joint      one joint_influence shard: doc_id, n_tokens, utility__GROUP ..., joint_utility
--         $documents  the same tokenised shard, row by row: doc_id; dump, language_score, score, int_score where it has them
--         $snapshot   its snapshot: the source of documents without a dump
--         $edges      [{column_name, decile, lower, upper}]: lower < utility <= upper
--         labels      view: doc_id, label; no document twice
-- Output: column_name, decile, source, label (null: none), n_documents, n_tokens, n_misaligned (rows whose doc_ids differ:
--         anything but 0 is an error), and of each quality column the sum and, under n_*, how many are not null.
-- Shell:  CREATE VIEW labels AS SELECT 'd' AS doc_id, 'planted' AS label; PREPARE q AS <this statement>;
--         EXECUTE q(joint := 'a.parquet', documents := 'b.parquet', snapshot := 'A',
--                   edges := [{'column_name': 'joint_utility', 'decile': 1, 'lower': '-inf', 'upper': 0.5}]);
WITH edges AS (
    SELECT unnest($edges, recursive := true)
),
documents AS (
    SELECT doc_id AS document, coalesce(dump, CAST($snapshot AS VARCHAR)) AS source, language_score, score, int_score
    FROM (
        SELECT
            CAST(NULL AS VARCHAR) AS doc_id,
            CAST(NULL AS VARCHAR) AS dump,
            CAST(NULL AS DOUBLE) AS language_score,
            CAST(NULL AS DOUBLE) AS score,
            CAST(NULL AS BIGINT) AS int_score
        WHERE false
        UNION ALL BY NAME
        SELECT * FROM read_parquet($documents, hive_partitioning = false)
    )
),
joined AS (
    SELECT *
    FROM (
        SELECT doc_id, n_tokens, COLUMNS('^(utility__.*|joint_utility)$')
        FROM read_parquet($joint, hive_partitioning = false)
    )
    POSITIONAL JOIN documents
),
labelled AS (
    SELECT joined.*, label, (SELECT count(*) FROM joined WHERE doc_id IS DISTINCT FROM document) AS n_misaligned
    FROM joined
    LEFT JOIN labels USING (doc_id)
),
utilities AS (
    SELECT *
    FROM labelled
    UNPIVOT (utility FOR column_name IN (COLUMNS('^(utility__.*|joint_utility)$')))
)
SELECT
    column_name,
    decile,
    source,
    label,
    count(*) AS n_documents,
    CAST(coalesce(sum(n_tokens), 0) AS BIGINT) AS n_tokens,
    any_value(n_misaligned) AS n_misaligned,
    count(language_score) AS n_language_score,
    fsum(language_score) AS language_score,
    count(score) AS n_score,
    fsum(score) AS score,
    count(int_score) AS n_int_score,
    CAST(sum(int_score) AS DOUBLE) AS int_score
FROM utilities
JOIN edges USING (column_name)
WHERE utility > CAST(lower AS DOUBLE) AND utility <= CAST(upper AS DOUBLE)
GROUP BY column_name, decile, source, label
ORDER BY column_name, decile, source, label
