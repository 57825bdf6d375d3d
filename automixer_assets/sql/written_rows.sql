-- Rows that parts of the shards wrote down for another statement, such as tied_documents.sql (DESIGN: top share).
-- Grain:  that of the statement.
-- Input:  $files  its result for each part
-- Output: its columns.
-- Shell:  PREPARE q AS <this statement>; EXECUTE q(files := ['part-00000.parquet']);
SELECT *
FROM read_parquet($files, hive_partitioning = false)
