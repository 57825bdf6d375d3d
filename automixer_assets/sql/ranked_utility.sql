-- Utility as its rank in the reference sample, 0 to 1: linear between the sample's utilities, flat beyond its ends, so a
-- new document never moves an old one (DESIGN: scale between checkpoints).
-- Grain:  document, in the view's row order.
-- Input:  utilities  view: row, utility
--         $knots     [{knot, rank}]: rows of normalisation_ranks.sql
-- Output: utility, the rank; null where it is null or NaN.
-- Shell:  CREATE VIEW utilities AS FROM ...; PREPARE q AS <this statement>; EXECUTE q(knots := [{'knot': 0.0, 'rank': 0.5}]);
WITH knots AS (
    SELECT unnest($knots, recursive := true)
),
segments AS (
    SELECT
        knot,
        rank,
        lead(knot, 1, 'inf') OVER (ORDER BY knot) AS next_knot,
        lead(rank, 1, rank) OVER (ORDER BY knot) AS next_rank
    FROM knots
)
SELECT
    CASE
        WHEN isfinite(utility)
        THEN coalesce(
            rank + (next_rank - rank) * ((utility - knot) / (next_knot - knot)),
            (SELECT min(rank) FROM knots)
        )
    END AS utility
FROM utilities
ASOF LEFT JOIN segments ON utilities.utility >= segments.knot
ORDER BY "row"
