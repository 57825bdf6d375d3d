-- I_joint(x) = sum_j alpha_j I(x; theta_j), in utility and in the paper's sign (paper, section 4).
-- Grain:  document, in the shard's row order.
-- Input:  utilities  view of the row-aligned utilities of one shard: utility__GROUP ...
--         $alphas    blending factors, in the order of the utility__GROUP columns
-- Output: joint_utility, joint_influence = -joint_utility.
-- Shell:  CREATE VIEW utilities AS FROM 'shard-00000.parquet'; PREPARE q AS <this statement>; EXECUTE q(alphas := [0.25, 0.75]);
WITH blended AS (
    SELECT list_inner_product(CAST([*COLUMNS('^utility__')] AS DOUBLE[]), CAST($alphas AS DOUBLE[])) AS joint_utility
    FROM utilities
)
SELECT
    joint_utility,
    0 - joint_utility AS joint_influence
FROM blended
