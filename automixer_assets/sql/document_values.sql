-- How many documents of each group, and of the corpus, come from which domain, are in which language, of which source.
-- Grain:  group, kind (domain, language, source) and value that some document of the group has.
-- Input:  $files       selection files of all groups: row
--         $selections  [{file, group, snapshot, shard}]: where each of $files belongs
--         $documents   tokenised shards of the mixture's snapshots: url, language, dump
--         $shards      [{file, snapshot, shard}]: where each of $documents belongs
-- Output: group, kind, value, n_in_group, n_in_corpus (documents with that value), group_total, corpus_total (documents
--         with any value of the kind). Domain: the URL's host without `www.`; source: the dump, or else the snapshot.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := [...], selections := [...], documents := [...], shards := [...]);
WITH selections AS (
    SELECT unnest($selections, recursive := true)
),
shards AS (
    SELECT unnest($shards, recursive := true)
),
documents AS (
    SELECT
        snapshot,
        shard,
        file_row_number AS "row",
        nullif(regexp_replace(regexp_extract(lower(url), '^[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?([^/:?#]+)', 1), '^www\.', ''), '') AS domain,
        language,
        coalesce(dump, snapshot) AS source
    FROM read_parquet($documents, hive_partitioning = false) AS rows_read
    JOIN shards ON shards.file = rows_read.filename
),
members AS (
    SELECT "group", snapshot, shard, "row"
    FROM read_parquet($files, hive_partitioning = false) AS rows_kept
    JOIN selections ON selections.file = rows_kept.filename
),
corpus_counts AS (
    SELECT kind, value, count(*) AS n_in_corpus
    FROM documents
    UNPIVOT (value FOR kind IN (domain, language, source))
    GROUP BY kind, value
),
member_values AS (
    SELECT "group", domain, language, source
    FROM members
    JOIN documents USING (snapshot, shard, "row")
),
group_counts AS (
    SELECT "group", kind, value, count(*) AS n_in_group
    FROM member_values
    UNPIVOT (value FOR kind IN (domain, language, source))
    GROUP BY "group", kind, value
),
corpus_totals AS (
    SELECT kind, sum(n_in_corpus) AS corpus_total
    FROM corpus_counts
    GROUP BY kind
),
group_totals AS (
    SELECT "group", kind, sum(n_in_group) AS group_total
    FROM group_counts
    GROUP BY "group", kind
)
SELECT
    "group",
    kind,
    value,
    n_in_group,
    n_in_corpus,
    CAST(group_total AS BIGINT) AS group_total,
    CAST(corpus_total AS BIGINT) AS corpus_total
FROM group_counts
JOIN corpus_counts USING (kind, value)
JOIN group_totals USING ("group", kind)
JOIN corpus_totals USING (kind)
