-- Documents that two groups share (paper, section 4: overlap between groups is kept).
-- Grain:  ordered pair of groups, a group with itself included: that row counts the group's own documents.
-- Input:  $file  memberships.parquet: in__GROUP ..., n_documents, n_tokens
-- Output: group, other, n_documents, n_tokens of the documents in both; pairs that share none have no row.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(file := 'memberships.parquet');
WITH memberships AS (
    SELECT file_row_number AS membership, n_documents, n_tokens, COLUMNS('^in__')
    FROM read_parquet($file, hive_partitioning = false)
),
members AS (
    SELECT substr(name, length('in__') + 1) AS "group", membership, n_documents, n_tokens
    FROM memberships
    UNPIVOT (is_member FOR name IN (COLUMNS('^in__')))
    WHERE is_member
)
SELECT
    mine."group",
    theirs."group" AS other,
    CAST(sum(mine.n_documents) AS BIGINT) AS n_documents,
    CAST(sum(mine.n_tokens) AS BIGINT) AS n_tokens
FROM members AS mine
JOIN members AS theirs USING (membership)
GROUP BY mine."group", theirs."group"
ORDER BY mine."group", other
