-- Sums over the documents of one shard that are in the same groups: all that group sizes, overlaps, densities and
-- Appendix B need, and shards add up (paper, sections 4 and 5, Appendix B).
-- A(id, total_influence) of Appendix B sums a document's utilities over the groups that keep it, without alpha.
-- Grain:  set of groups, the empty set too, if a document has it.
-- Input:  kept_utilities  view of the shard's rows: n_tokens, joint_utility, kept__GROUP (kept_utility.sql) for every group
-- Output: in__GROUP for every group, n_documents, n_tokens,
--         utility_tokens (sum of joint_utility x n_tokens),
--         lowest, highest (total influence; null for the empty set), shard_lowest (over all sets),
--         excess_tokens (sum of (total influence - shard_lowest) x n_tokens: what min-max scaling needs, without cancelling).
-- One thread adds up in row order; with more, the last bit of a sum of doubles can differ.
-- Shell:  SET threads = 1; CREATE VIEW kept_utilities AS FROM ...; then this statement.
WITH documents AS (
    SELECT
        n_tokens,
        joint_utility,
        COLUMNS('^kept__(.*)$') IS NOT NULL AS 'in__\1',
        list_sum([*COLUMNS('^kept__')]) AS total_influence
    FROM kept_utilities
),
bounds AS (
    SELECT min(total_influence) AS shard_lowest
    FROM documents
)
SELECT
    COLUMNS('^in__'),
    any_value(shard_lowest) AS shard_lowest,
    count(*) AS n_documents,
    CAST(sum(n_tokens) AS BIGINT) AS n_tokens,
    fsum(joint_utility * n_tokens) AS utility_tokens,
    min(total_influence) AS lowest,
    max(total_influence) AS highest,
    fsum((total_influence - shard_lowest) * n_tokens) AS excess_tokens
FROM documents
CROSS JOIN bounds
GROUP BY ALL
ORDER BY ALL
