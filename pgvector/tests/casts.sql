-- Casts between multivector and pgvector's vector[] and halfvec[].
CREATE EXTENSION vector;
CREATE EXTENSION infinity_embed;
CREATE EXTENSION infinity_embed_pgvector;
SELECT pg_describe_object(classid, objid, 0) AS without_comment
FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
WHERE e.extname = 'infinity_embed_pgvector' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
  AND obj_description(d.objid, d.classid::regclass::name) IS NULL;
SELECT ARRAY['[1,2]'::vector, '[3,4.5]'::vector]::multivector, ARRAY['[1,2]'::halfvec, '[3,4.5]'::halfvec]::multivector(2, f16);
SELECT '[[1,2],[3,4.5]]'::multivector::vector[], '[[1,2],[3,4.5]]'::multivector(2, f16)::halfvec[];
-- Each mistake has its own message.
SELECT '[[1,70000]]'::multivector::halfvec[];
\echo :LAST_ERROR_SQLSTATE
SELECT ARRAY['[1,2]'::vector, '[3]'::vector]::multivector;
\echo :LAST_ERROR_SQLSTATE
SELECT ARRAY['[1,2]'::vector, NULL]::multivector;
\echo :LAST_ERROR_SQLSTATE
SELECT '{}'::vector[]::multivector;
SELECT ARRAY[ARRAY['[1,2]'::vector]]::multivector;
SELECT ARRAY['[1,2]'::vector]::multivector(3);
-- Through columns and TOAST, there and back.
CREATE TABLE stored (vectors vector(3)[], tokens multivector(3), halves halfvec(3)[]);
INSERT INTO stored SELECT array_agg(ARRAY[i, i + 1, i * 0.5]::vector(3)) FROM generate_series(1, 500) i;
UPDATE stored SET tokens = vectors;
UPDATE stored SET halves = tokens;
SELECT multivector_tokens(tokens), tokens::vector[] = vectors AS vectors, halves::multivector = tokens AS halves, halves[500] FROM stored;
SELECT multivector_mean(tokens)::vector FROM stored;
