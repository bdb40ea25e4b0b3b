-- Functions of multivectors, and scores of every element type.
CREATE TABLE docs (id int, v multivector);
INSERT INTO docs VALUES (1, '[[3,4],[0,2],[-1,0]]'), (2, '[[1,0]]'), (3, NULL);
SELECT id, multivector_dims(v), multivector_tokens(v), multivector_element_type(v), multivector_normalize(v), multivector_mean(v) FROM docs ORDER BY id;
SELECT multivector_normalize('[[0,0],[3,4]]');
SELECT multivector_slice(v, 1, 1), multivector_slice(v, 2, 3) FROM docs WHERE id = 1;
SELECT multivector_slice(v, 0, 1) FROM docs WHERE id = 1;
\echo :LAST_ERROR_SQLSTATE
SELECT multivector_slice(v, 2, 4) FROM docs WHERE id = 1;
SELECT multivector_slice(v, 3, 2) FROM docs WHERE id = 1;
SELECT multivector_slice(v, -1, 2147483647) FROM docs WHERE id = 1;

-- Token pooling: the closest tokens are merged into their mean.
SELECT multivector_pool('[[1,0],[0,1],[1,0.1],[0.1,1]]', 2), multivector_pool('[[1,0],[0,1],[1,0.1],[0.1,1]]', 1), multivector_tokens(multivector_pool('[[1,0],[0,1],[1,0.1],[0.1,1]]', 100));
SELECT multivector_element_type(multivector_pool('[[1,0],[0,1],[1,0.1],[0.1,1]]'::multivector(2, f16), 2));
SELECT multivector_pool('[[1,0]]', 0);
\echo :LAST_ERROR_SQLSTATE
SELECT multivector_pool('[[1,0]]', -3);

-- Rows out and in.
SELECT n, token FROM docs, multivector_unnest(v) WITH ORDINALITY AS t(token, n) WHERE id = 1 ORDER BY n;
SELECT multivector_agg(token ORDER BY n DESC) FROM docs, multivector_unnest(v) WITH ORDINALITY AS t(token, n) WHERE id = 1;
SELECT multivector_agg(token) FROM (VALUES ('{1,2}'::double precision[]), (NULL), ('{3,4}')) t(token);
SELECT multivector_agg(token) IS NULL AS no_rows FROM (SELECT '{1}'::real[]) t(token) WHERE false;
SELECT id % 2 AS odd, multivector_agg(ARRAY[id, 1]::real[] ORDER BY id) FROM generate_series(1, 4) id GROUP BY 1 ORDER BY 1;
SELECT multivector_agg(token) FROM (VALUES ('{1,2}'::real[]), ('{3}')) t(token);
\echo :LAST_ERROR_SQLSTATE
SELECT multivector_agg(token) FROM (VALUES ('{{1,2}}'::real[])) t(token);
SELECT infinity_embed.multivector_agg_step(NULL, '{1}'::real[]);
\echo :LAST_ERROR_SQLSTATE
-- A window calls the final function many times on one state.
SELECT id, multivector_tokens(multivector_agg(ARRAY[id]::real[]) OVER (ORDER BY id)) FROM generate_series(1, 3) id;

-- Scores: every element type, queries as multivector, real[] and double precision[], untyped literals.
CREATE TABLE kinds AS
SELECT id, v::multivector(2) AS f32, v::multivector(2, f16) AS f16, v::multivector(2, int8) AS int8, v::multivector(2, bit) AS bit
FROM (VALUES (1, '[[0.6,0.8],[1,0]]'::multivector), (2, '[[0,-1],[0.8,0.6]]')) d(id, v);
SELECT id, round(maxsim(f32, '[[1,0],[0,1]]')::numeric, 3) AS f32, round(maxsim(f16, '{{1,0},{0,1}}'::real[])::numeric, 2) AS f16,
       round(maxsim(int8, '{{1,0},{0,1}}'::double precision[])::numeric, 2) AS int8, maxsim(bit, '[[1,0],[0,1]]') BETWEEN -3 AND 3 AS bit
FROM kinds ORDER BY id;
SELECT id, round((f32 @# '[[1,0],[0,1]]')::numeric, 3), round((f16 @# '{{1,0},{0,1}}'::real[])::numeric, 2), round((int8 @# '{{1,0},{0,1}}'::double precision[])::numeric, 2)
FROM kinds ORDER BY f32 @# '[[1,0],[0,1]]';
SELECT maxsim('[[1,0]]', f32) = maxsim('[[1,0]]', f32::real[]::multivector) FROM kinds WHERE id = 1;
SELECT maxsim('[[1,0]]', '[[1,0]]');
\echo :LAST_ERROR_SQLSTATE
SELECT maxsim(f32, '[[1,0,0]]') FROM kinds;
\echo :LAST_ERROR_SQLSTATE
SELECT maxsim(f32, '{{1,NaN}}'::real[]) FROM kinds;
-- Divided by the number of query tokens, as some libraries score.
SELECT maxsim_normalized('[[1,0],[0,1]]'::multivector, '[[2,0],[0,3]]'), maxsim_normalized('{{1,0},{0,1}}'::real[], '{{2,0},{0,3}}'::real[]);
-- Which token matched.
SELECT * FROM maxsim_explain('[[1,0],[0,1]]'::multivector, '[[0,2],[3,1]]');
SELECT query_token, document_token, round(similarity::numeric, 1) FROM kinds, maxsim_explain(int8, '{{0,2},{3,1}}'::real[]) WHERE id = 1;
SELECT sum(similarity) = maxsim('{{1,0},{0,1}}'::real[], '{{0,2},{3,1}}'::real[]) AS adds_up FROM maxsim_explain('{{1,0},{0,1}}'::real[], '{{0,2},{3,1}}'::real[]);

-- Another query of the same shape at the same call site is another query: LATERAL, a rescan, a cursor.
SELECT n, s.id, s.score
FROM (VALUES (1, '[[1,0]]'::multivector), (2, '[[0,1]]'), (3, '[[1,0]]'), (4, '[[0,-1]]')) q(n, query),
LATERAL (SELECT id, maxsim(f32, query) AS score FROM kinds ORDER BY f32 @# query, id LIMIT 1) s
ORDER BY n;
SET enable_material = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT n, (SELECT string_agg(id || ':' || maxsim(f32, query), ' ' ORDER BY id) FROM kinds) AS scores
FROM (SELECT n, CASE WHEN n % 2 = 0 THEN '[[1,0]]' ELSE '[[0,1]]' END::multivector AS query FROM generate_series(1, 4) n) q ORDER BY n;
BEGIN;
DECLARE c CURSOR FOR SELECT n, maxsim(f32, query) FROM kinds, (VALUES (1, '[[1,0]]'::multivector), (2, '[[0,1]]'), (3, '[[1,0]]')) q(n, query) WHERE id = 1 ORDER BY n;
FETCH 2 FROM c;
FETCH 2 FROM c;
COMMIT;
PREPARE score(multivector) AS SELECT id, maxsim(f32, $1) FROM kinds ORDER BY id;
EXECUTE score('[[1,0]]');
EXECUTE score('[[0,1]]');
DEALLOCATE score;
DROP TABLE docs, kinds;
