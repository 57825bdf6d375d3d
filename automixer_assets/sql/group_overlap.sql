-- Documents that two groups share, within one shard; shards add up (paper, section 4: overlap between groups is kept).
-- Grain:  ordered pair of groups, a group with itself included: that row counts the group's own documents.
-- Input:  selected  view of selected_documents.sql of one shard: group, row, n_tokens
-- Output: group, other, n_documents, n_tokens of the documents in both.
-- Shell:  CREATE VIEW selected AS FROM ...; then this statement.
SELECT
    mine."group",
    theirs."group" AS other,
    count(*) AS n_documents,
    CAST(sum(mine.n_tokens) AS BIGINT) AS n_tokens
FROM selected AS mine
JOIN selected AS theirs ON theirs."row" = mine."row"
GROUP BY mine."group", theirs."group"
ORDER BY mine."group", other
