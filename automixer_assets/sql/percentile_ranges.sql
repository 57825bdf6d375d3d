-- Documents of one shard by range of joint utility, with their quality columns (paper, Table 4). Shards add up.
-- Grain:  range.
-- Input:  $joint      one joint_influence shard: doc_id, n_tokens, joint_utility
--         $documents  the same tokenised shard, row by row: doc_id; language_score, score, int_score where the corpus has them
--         $ranges     [{range, lower, upper}]: lower < joint_utility <= upper
-- Output: range, n_documents, n_tokens, n_misaligned (rows whose doc_ids differ: anything but 0 is an error), and of each
--         quality column the sum and, under n_*, how many are not null.
-- Shell:  PREPARE q AS <this statement>;
--         EXECUTE q(joint := 'a.parquet', documents := 'b.parquet', ranges := [{'range': 'p00-50', 'lower': '-inf', 'upper': 0.5}]);
WITH ranges AS (
    SELECT unnest($ranges, recursive := true)
),
documents AS (
    SELECT doc_id AS document, language_score, score, int_score
    FROM (
        SELECT
            CAST(NULL AS VARCHAR) AS doc_id,
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
    FROM (SELECT doc_id, n_tokens, joint_utility FROM read_parquet($joint, hive_partitioning = false))
    POSITIONAL JOIN documents
)
SELECT
    range,
    count(joint_utility) AS n_documents,
    CAST(coalesce(sum(n_tokens), 0) AS BIGINT) AS n_tokens,
    (SELECT count(*) FROM joined WHERE doc_id IS DISTINCT FROM document) AS n_misaligned,
    count(language_score) AS n_language_score,
    fsum(language_score) AS language_score,
    count(score) AS n_score,
    fsum(score) AS score,
    count(int_score) AS n_int_score,
    fsum(int_score) AS int_score
FROM ranges
LEFT JOIN joined ON joint_utility > CAST(lower AS DOUBLE) AND joint_utility <= CAST(upper AS DOUBLE)
GROUP BY range
ORDER BY range
