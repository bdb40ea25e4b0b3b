-- maxsim(document, query): sum over query tokens of the best dot product among document tokens.

SELECT maxsim('{{1,0},{0,1}}'::real[], '{{1,0}}'::real[]);
SELECT maxsim('{{1,0},{0,1}}'::real[], '{{0.5,0.25},{3,4}}'::real[]);
SELECT maxsim('{{-1,0},{0,-2}}'::real[], '{{1,1}}'::real[]);
-- It is not symmetric, and @# is its negative.
SELECT maxsim('{{3,4}}'::real[], '{{1,0},{0,1}}'::real[]), maxsim('{{1,0},{0,1}}'::real[], '{{3,4}}'::real[]);
SELECT '{{1,0},{0,1}}'::real[] @# '{{0.5,0.25},{3,4}}'::real[];
-- By name, and one dimension.
SELECT maxsim(query => '{{2}}'::real[], document => '{{3},{5}}'::real[]);

-- What drivers send: double precision[], on either side. The function widens a real[] document then, the operator
-- reads it in place.
SELECT maxsim('{{1,0},{0,1}}'::real[], '{{0.5,0.25},{3,4}}'::double precision[]),
       maxsim('{{1,0},{0,1}}'::double precision[], '{{0.5,0.25},{3,4}}'::real[]),
       maxsim('{{1,0},{0,1}}'::double precision[], '{{0.5,0.25},{3,4}}'::double precision[]);
SELECT '{{1,0}}'::real[] @# '{{2,0}}'::double precision[],
       '{{1,0}}'::double precision[] @# '{{2,0}}'::real[],
       '{{1,0}}'::double precision[] @# '{{2,0}}'::double precision[];
-- An untyped literal takes the other side's type; two of them are ambiguous.
SELECT maxsim('{{1,0}}'::real[], '{{2,0}}'), maxsim('{{1,0}}', '{{2,0}}'::real[]), '{{1,0}}'::real[] @# '{{2,0}}';
SELECT maxsim('{{1,0}}', '{{2,0}}');
\echo :LAST_ERROR_SQLSTATE
-- Arrays of other numbers are cast by the user.
SELECT maxsim('{{1,0}}'::integer[], '{{2,0}}'::integer[]);
SELECT maxsim(ARRAY[[1,0]]::real[], ARRAY[[2,0]]::real[]);
-- Strict.
SELECT maxsim(NULL::real[], '{{1}}'::real[]) IS NULL AS null_document, maxsim('{{1}}'::real[], NULL::real[]) IS NULL AS null_query;
-- Lower bounds do not matter.
SELECT maxsim('[5:6][-1:0]={{1,0},{0,1}}'::real[], '[0:0][7:8]={{3,4}}'::real[]);

-- Each mistake has its own message.
SELECT maxsim('{1,0}'::real[], '{{1,0}}'::real[]);
\echo :LAST_ERROR_SQLSTATE
SELECT maxsim('{{1,0}}'::real[], '{{{1,0}}}'::real[]);
\echo :LAST_ERROR_SQLSTATE
SELECT maxsim('{}'::real[], '{{1,0}}'::real[]);
\echo :LAST_ERROR_SQLSTATE
SELECT maxsim('{{1,0}}'::real[], '{}'::real[]);
\echo :LAST_ERROR_SQLSTATE
SELECT maxsim('{{1,NULL}}'::real[], '{{1,0}}'::real[]);
\echo :LAST_ERROR_SQLSTATE
SELECT maxsim('{{1,0}}'::real[], '{{NULL,0}}'::real[]);
SELECT maxsim('{{1,0},{2,NaN}}'::real[], '{{1,0}}'::real[]);
\echo :LAST_ERROR_SQLSTATE
SELECT maxsim('{{1,0}}'::real[], '{{Infinity,0}}'::real[]);
SELECT maxsim('{{1,0}}'::real[], '{{-Infinity,0}}'::double precision[]);
SELECT maxsim('{{1,0}}'::real[], '{{1e300,0}}'::double precision[]);
\echo :LAST_ERROR_SQLSTATE
SELECT maxsim('{{1,0,0}}'::real[], '{{1,0}}'::real[]);
\echo :LAST_ERROR_SQLSTATE

-- Values as tables hold them: short headers, compressed, external.
CREATE TABLE stored (id text, embedding real[]);
ALTER TABLE stored ALTER embedding SET STORAGE PLAIN;
INSERT INTO stored VALUES ('short header', '{{1,0},{0,1}}');
ALTER TABLE stored ALTER embedding SET STORAGE MAIN;
INSERT INTO stored SELECT 'compressed', array_agg(ARRAY[(i % 3 = 0)::int, 0.5]) FROM generate_series(1, 2000) i;
ALTER TABLE stored ALTER embedding SET STORAGE EXTERNAL;
INSERT INTO stored SELECT 'external', array_agg(ARRAY[i, 0.5]) FROM generate_series(1, 2000) i;
ALTER TABLE stored ALTER embedding SET STORAGE EXTENDED;
INSERT INTO stored SELECT 'compressed and external', array_agg(ARRAY[i % 7, 0.5]) FROM generate_series(1, 30000) i;
INSERT INTO stored VALUES ('not embedded', NULL);
SELECT id, pg_column_size(embedding) < 8 * cardinality(embedding) / 2 AS is_compressed,
       maxsim(embedding, '{{1,0},{0,2}}'::real[]) FROM stored;
SELECT id, maxsim(embedding::double precision[], '{{1,0},{0,2}}'::real[]) FROM stored;

-- Ranking: rows that are not embedded come last.
SELECT id FROM stored ORDER BY embedding @# '{{1,0},{0,2}}' LIMIT 2;
SELECT id FROM stored ORDER BY embedding @# '{{1,0},{0,2}}'::double precision[];
SELECT id FROM stored ORDER BY maxsim(embedding, '{{1,0},{0,2}}'::real[]) DESC NULLS LAST LIMIT 2;

-- A query of the same shape but other values at the same call site is another query.
SELECT n, s.id, s.score
FROM (VALUES (1, '{{1,0}}'::real[]), (2, '{{0,1}}'), (3, '{{1,0}}'), (4, '{{0,-1}}')) q(n, query),
LATERAL (SELECT id, maxsim(embedding, query) AS score FROM stored WHERE embedding IS NOT NULL
         ORDER BY embedding @# query, id LIMIT 1) s
ORDER BY n;

-- So are the values of a PL/pgSQL variable, whose expressions PostgreSQL keeps between evaluations.
DO $$
DECLARE
    query real[];
    score double precision;
BEGIN
    FOR i IN 1..3 LOOP
        query := ARRAY[[i, 0]];
        score := maxsim('{{1,0}}'::real[], query);
        RAISE NOTICE '% %', score, '[[1,0]]'::multivector @# query;
    END LOOP;
END $$;
CREATE FUNCTION score(document real[], query real[]) RETURNS double precision LANGUAGE plpgsql AS 'BEGIN RETURN maxsim(document, query); END';
SELECT i, score('{{1,0}}', ARRAY[[i, 0]]::real[]) FROM generate_series(1, 3) i;
DROP FUNCTION score;

-- Finite vectors whose score is not.
SELECT maxsim('{{3e38,3e38}}'::real[], '{{3e38,3e38}}'::real[]);
\echo :LAST_ERROR_SQLSTATE

DROP TABLE stored;
