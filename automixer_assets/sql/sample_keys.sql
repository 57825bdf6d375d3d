-- Keys of a weighted sample without replacement: of any number of smallest keys (Efraimidis and Spirakis 2006; DESIGN: over
-- budget). A key depends on the document, the seed and the group alone, so other documents change none.
-- Grain:  document, in the view's row order.
-- Input:  documents  view: row, doc_id, weight (above 0)
--         $seed, $group  what the random number is drawn by, beside the id
-- Output: sample_key = -ln(u) / weight, u in (0, 1) from the upper 53 bits of md5(seed/group/doc_id).
-- Shell:  CREATE VIEW documents AS FROM ...; PREPARE q AS <this statement>; EXECUTE q(seed := 0, "group" := 'g');
WITH draws AS (
    SELECT
        "row",
        weight,
        ((md5_number_upper(concat_ws('/', CAST($seed AS BIGINT), CAST($group AS VARCHAR), doc_id)) >> 11) + 0.5)
        / 9007199254740992.0::DOUBLE AS u
    FROM documents
)
SELECT -ln(u) / weight AS sample_key
FROM draws
ORDER BY "row"
