-- The values that set a group apart from the rest of the corpus: log-odds with an informative Dirichlet prior
-- (Monroe, Colaresi & Quinn 2008, "Fightin' Words", equations 15, 20 and 22; the prior is the corpus itself, scaled to
-- $prior documents, so that rare values need more evidence than frequent ones).
-- Grain:  group, kind and value; the $top of largest z per group and kind.
-- Input:  $files  tables of group, kind, value, n_in_group, n_in_corpus, group_total, corpus_total
--         $prior  weight of the prior;  $top  how many values to keep
-- Output: group, kind, rank (from 1), value, n_in_group, n_in_corpus, share_in_group, share_in_corpus, log_odds, z.
--         What every document has, such as the only language of a corpus, has log_odds and z of 0.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := ['counts.parquet'], prior := 500, top := 10);
WITH counts AS (
    SELECT
        *,
        n_in_group AS inside,
        n_in_corpus - n_in_group AS outside,
        corpus_total - group_total AS outside_total,
        CAST($prior AS DOUBLE) AS prior,
        $prior * n_in_corpus / corpus_total AS prior_count
    FROM read_parquet($files, hive_partitioning = false)
),
compared AS (
    SELECT
        *,
        CASE
            WHEN n_in_corpus = corpus_total THEN 0
            ELSE ln((inside + prior_count) / (group_total + prior - inside - prior_count))
                - ln((outside + prior_count) / (outside_total + prior - outside - prior_count))
        END AS log_odds,
        1 / (inside + prior_count) + 1 / (outside + prior_count) AS variance
    FROM counts
),
ranked AS (
    SELECT
        *,
        log_odds / sqrt(variance) AS z,
        row_number() OVER (PARTITION BY "group", kind ORDER BY log_odds / sqrt(variance) DESC, n_in_group DESC, value) AS rank
    FROM compared
)
SELECT
    "group",
    kind,
    rank,
    value,
    n_in_group,
    n_in_corpus,
    n_in_group / group_total AS share_in_group,
    n_in_corpus / corpus_total AS share_in_corpus,
    log_odds,
    z
FROM ranked
WHERE rank <= $top
ORDER BY "group", kind, rank
