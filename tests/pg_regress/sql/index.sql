-- The access method maxsim: which indexes there can be, which queries use them, and what they return.
SET enable_seqscan = off;

-- Ten documents of three tokens, document i near angle i/10; the query points to 0.5.
CREATE FUNCTION near(angle double precision) RETURNS real[] LANGUAGE sql IMMUTABLE
    RETURN ARRAY[ARRAY[cos(angle), sin(angle)], ARRAY[cos(angle) / 2, sin(angle) / 2], ARRAY[0, 0.125]]::real[];
CREATE TABLE pages (id int PRIMARY KEY, kind text, embedding multivector(2));
INSERT INTO pages SELECT i, CASE WHEN i % 2 = 0 THEN 'even' ELSE 'odd' END, near(i / 10.0) FROM generate_series(1, 10) AS i;
CREATE INDEX pages_embedding ON pages USING maxsim (embedding);
\d pages_embedding
SELECT pg_get_indexdef('pages_embedding'::regclass);
EXPLAIN (COSTS OFF) SELECT id FROM pages ORDER BY embedding @# '[[0.9,0.48]]' LIMIT 3;
SELECT id, (embedding @# near(0.5))::numeric(6, 4) AS distance FROM pages ORDER BY embedding @# near(0.5) LIMIT 3;
-- The query may be any of three types.
SELECT id FROM pages ORDER BY embedding @# near(0.5)::multivector LIMIT 2;
SELECT id FROM pages ORDER BY embedding @# near(0.5)::double precision[] LIMIT 2;
EXPLAIN (COSTS OFF) SELECT id FROM pages ORDER BY embedding @# near(0.5)::double precision[] LIMIT 2;
-- As many rows as there are, and from the third on; filters and joins only drop rows.
SELECT count(*) FROM (SELECT id FROM pages ORDER BY embedding @# near(0.5) LIMIT 1000) AS found;
SELECT id FROM pages ORDER BY embedding @# near(0.5) LIMIT 2 OFFSET 8;
EXPLAIN (COSTS OFF) SELECT id FROM pages WHERE kind = 'odd' ORDER BY embedding @# near(0.75) LIMIT 2;
SELECT id FROM pages WHERE kind = 'odd' ORDER BY embedding @# near(0.75) LIMIT 2;
-- One query for each row.
SELECT q.angle, found.id FROM (VALUES (0.1), (0.5), (0.9)) AS q(angle),
    LATERAL (SELECT id FROM pages ORDER BY embedding @# near(q.angle) LIMIT 1) AS found ORDER BY q.angle;

-- What the index cannot do it is not used for.
EXPLAIN (COSTS OFF) SELECT id FROM pages;
EXPLAIN (COSTS OFF) SELECT id FROM pages ORDER BY embedding @# near(0.5) DESC LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM pages ORDER BY embedding @# near(0.5) NULLS FIRST LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM pages ORDER BY maxsim(embedding, near(0.5)) DESC LIMIT 3;

-- A NULL embedding is not in the index, so the index does not return the row; the exact order puts it last.
INSERT INTO pages VALUES (11, 'odd', NULL);
SELECT count(*) FROM (SELECT id FROM pages ORDER BY embedding @# near(0.5) LIMIT 100) AS found;
SET enable_indexscan = off;
SET enable_seqscan = on;
SELECT id FROM pages ORDER BY embedding @# near(0.5) OFFSET 9;
RESET enable_indexscan;
SET enable_seqscan = off;
-- To a NULL query no row is near: all have the distance NULL, in no order.
SELECT count(*), count(distance) FROM (SELECT embedding @# NULL::multivector AS distance FROM pages ORDER BY embedding @# NULL::multivector) AS found;
PREPARE nearest(multivector) AS SELECT id, embedding @# $1 AS distance FROM pages ORDER BY embedding @# $1 LIMIT 100;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE nearest(NULL);
CREATE TEMP TABLE found AS EXECUTE nearest(NULL);
SELECT count(*), count(distance) FROM found;
RESET plan_cache_mode;

-- Dimensions.
SELECT id FROM pages ORDER BY embedding @# '[[1,2,3]]' LIMIT 1;
\echo :LAST_ERROR_SQLSTATE
CREATE TABLE free (id serial, embedding multivector);
CREATE INDEX free_embedding ON free USING maxsim (embedding);
SELECT id FROM free ORDER BY embedding @# '[[1,2,3]]' LIMIT 1;
INSERT INTO free (embedding) VALUES ('[[1,2]]');
INSERT INTO free (embedding) VALUES ('[[1,2,3]]');
\echo :LAST_ERROR_SQLSTATE
SELECT id FROM free ORDER BY embedding @# '[[1,2,3]]' LIMIT 1;
\echo :LAST_ERROR_SQLSTATE
-- Emptied, it takes another dimension.
DELETE FROM free;
VACUUM free;
INSERT INTO free (embedding) VALUES ('[[1,2,3]]');
SELECT id FROM free ORDER BY embedding @# '[[1,2,3]]' LIMIT 1;
TRUNCATE free;
INSERT INTO free (embedding) VALUES ('[[1,2]]');
SELECT * FROM infinity_embed.check_index('free_embedding');
-- A table of two dimensions cannot have one.
CREATE TABLE mixed (embedding multivector);
INSERT INTO mixed VALUES ('[[1,2]]'), ('[[1,2,3]]');
CREATE INDEX mixed_embedding ON mixed USING maxsim (embedding);
\echo :LAST_ERROR_SQLSTATE

-- Every element type, and real[]; values in one row, compressed and in TOAST.
CREATE TABLE elements (id int, f32 multivector(64, f32), f16 multivector(64, f16), int8 multivector(64, int8), bit multivector(64, bit), reals real[]);
INSERT INTO elements SELECT i, value, value, value, value, value FROM generate_series(1, 60) AS i,
    LATERAL (SELECT array_agg(ARRAY(SELECT sin(i * (token + component) + component * component)::real FROM generate_series(1, 64) AS component)) AS value
             FROM generate_series(1, 1 + i % 40) AS token) AS made;
CREATE INDEX elements_f32 ON elements USING maxsim (f32);
CREATE INDEX elements_f16 ON elements USING maxsim (f16);
CREATE INDEX elements_int8 ON elements USING maxsim (int8);
CREATE INDEX elements_bit ON elements USING maxsim (bit);
CREATE INDEX elements_reals ON elements USING maxsim (reals);
INSERT INTO elements SELECT id + 60, f32, f16, int8, bit, reals FROM elements;
DO $$
DECLARE
    exact text; found text; name text; plan json;
BEGIN
    PERFORM set_config('infinity_embed.search_effort', 'Infinity', true);
    FOREACH name IN ARRAY ARRAY['f32', 'f16', 'int8', 'bit', 'reals'] LOOP
        PERFORM set_config('enable_indexscan', 'off', true);
        EXECUTE format('SELECT string_agg(distance::text, '' '') FROM (SELECT %1$I @# (SELECT f32::real[] FROM elements WHERE id = 7) AS distance FROM elements ORDER BY 1) AS s', name) INTO exact;
        PERFORM set_config('enable_indexscan', 'on', true);
        EXECUTE format('EXPLAIN (FORMAT json) SELECT %1$I @# (SELECT f32::real[] FROM elements WHERE id = 7) FROM elements ORDER BY 1', name) INTO plan;
        EXECUTE format('SELECT string_agg(distance::text, '' '') FROM (SELECT %1$I @# (SELECT f32::real[] FROM elements WHERE id = 7) AS distance FROM elements ORDER BY 1) AS s', name) INTO found;
        RAISE NOTICE '%: index %, same %', name, plan -> 0 -> 'Plan' ->> 'Index Name', exact = found;
    END LOOP;
END $$;
SELECT index::text, (infinity_embed.check_index(index, content => true)).*
FROM unnest(ARRAY['elements_f32', 'elements_f16', 'elements_int8', 'elements_bit', 'elements_reals']::regclass[]) AS index;

-- An array that is no matrix is no document.
INSERT INTO elements (id, reals) VALUES (1000, '{1,2,3}');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO elements (id, reals) VALUES (1000, '{}');
\echo :LAST_ERROR_SQLSTATE

-- Expressions and conditions.
CREATE TABLE parts (id int, kind text, embedding real[]);
INSERT INTO parts SELECT i, CASE WHEN i % 2 = 0 THEN 'even' ELSE 'odd' END, near(i / 10.0) FROM generate_series(1, 10) AS i;
CREATE INDEX parts_cast ON parts USING maxsim ((embedding::multivector(2, f16)));
CREATE INDEX parts_odd ON parts USING maxsim (embedding) WHERE kind = 'odd';
EXPLAIN (COSTS OFF) SELECT id FROM parts ORDER BY embedding::multivector(2, f16) @# near(0.5) LIMIT 2;
SELECT id FROM parts ORDER BY embedding::multivector(2, f16) @# near(0.5) LIMIT 2;
EXPLAIN (COSTS OFF) SELECT id FROM parts WHERE kind = 'odd' ORDER BY embedding @# near(0.75) LIMIT 2;
SELECT id FROM parts WHERE kind = 'odd' ORDER BY embedding @# near(0.75) LIMIT 2;
EXPLAIN (COSTS OFF) SELECT id FROM parts ORDER BY embedding @# near(0.75) LIMIT 2;
EXPLAIN (COSTS OFF) SELECT id FROM parts WHERE kind = 'odd';
UPDATE parts SET kind = 'odd' WHERE id = 8;
UPDATE parts SET kind = 'even' WHERE id = 7;
SELECT id FROM parts WHERE kind = 'odd' ORDER BY embedding @# near(0.75) LIMIT 2;
SELECT * FROM infinity_embed.check_index('parts_cast');
VACUUM parts;
SELECT * FROM infinity_embed.check_index('parts_odd');
-- An update of another column is HOT: no entry is added.
SELECT documents FROM infinity_embed.index_info('pages_embedding');
CREATE TABLE roomy (id int, note text, embedding multivector(2)) WITH (fillfactor = 50);
INSERT INTO roomy SELECT i, 'old', near(i) FROM generate_series(1, 5) AS i;
CREATE INDEX roomy_embedding ON roomy USING maxsim (embedding);
UPDATE roomy SET note = 'new';
SELECT documents FROM infinity_embed.index_info('roomy_embedding');
SELECT * FROM infinity_embed.check_index('roomy_embedding');

-- Partitions.
CREATE TABLE parted (id int, embedding multivector(2)) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (6);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (6) TO (100);
CREATE INDEX parted_embedding ON parted USING maxsim (embedding);
INSERT INTO parted SELECT i, near(i / 10.0) FROM generate_series(1, 10) AS i;
EXPLAIN (COSTS OFF) SELECT id FROM parted ORDER BY embedding @# near(0.55) LIMIT 4;
SELECT id FROM parted ORDER BY embedding @# near(0.54) LIMIT 4;

-- Without a log, and of this session.
CREATE UNLOGGED TABLE unlogged (id int, embedding multivector(2));
CREATE INDEX unlogged_embedding ON unlogged USING maxsim (embedding);
INSERT INTO unlogged SELECT i, near(i / 10.0) FROM generate_series(1, 10) AS i;
SELECT id FROM unlogged ORDER BY embedding @# near(0.5) LIMIT 1;
SELECT * FROM infinity_embed.check_index('unlogged_embedding');
ALTER TABLE unlogged SET LOGGED;
SELECT id FROM unlogged ORDER BY embedding @# near(0.5) LIMIT 1;
CREATE TEMP TABLE mine (id int, embedding multivector(2));
CREATE INDEX mine_embedding ON mine USING maxsim (embedding);
INSERT INTO mine SELECT i, near(i / 10.0) FROM generate_series(1, 10) AS i;
DELETE FROM mine WHERE id = 5;
VACUUM mine;
INSERT INTO mine VALUES (50, near(0.51));
SELECT id FROM mine ORDER BY embedding @# near(0.5) LIMIT 2;
SELECT * FROM infinity_embed.check_index('mine_embedding');

-- Made and made again while others go on.
CREATE INDEX CONCURRENTLY pages_again ON pages USING maxsim (embedding);
REINDEX INDEX pages_again;
REINDEX INDEX CONCURRENTLY pages_again;
REINDEX TABLE CONCURRENTLY pages;
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid = 'pages'::regclass ORDER BY 1;
SELECT * FROM infinity_embed.check_index('pages_again');
DROP INDEX CONCURRENTLY pages_again;
CREATE TABLE renewed AS SELECT * FROM pages;
CREATE INDEX renewed_embedding ON renewed USING maxsim (embedding);
ALTER TABLE renewed ALTER embedding TYPE multivector(2, int8);
VACUUM FULL renewed;
CLUSTER renewed USING renewed_embedding;
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM infinity_embed.check_index('renewed_embedding');
SELECT id FROM renewed ORDER BY embedding @# near(0.5) LIMIT 1;

-- The option.
CREATE INDEX ON pages USING maxsim (embedding) WITH (lists = -1);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX ON pages USING maxsim (embedding) WITH (lists = 65537);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX ON pages USING maxsim (embedding) WITH (lists = many);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX ON pages USING maxsim (embedding) WITH (probes = 1);
\echo :LAST_ERROR_SQLSTATE
-- More lists than tokens: what was made when there were more can be made again.
CREATE INDEX "31\_l%ists" ON pages USING maxsim (embedding) WITH (lists = 31);
SELECT lists, flat_documents = documents AS flat FROM infinity_embed.index_info('"31\_l%ists"');
REINDEX INDEX "31\_l%ists";
DROP INDEX pages_embedding;
SELECT queries, recall FROM infinity_embed.measure_recall('"31\_l%ists"', sample => 5, k => 3);
CREATE INDEX pages_embedding ON pages USING maxsim (embedding);
DROP INDEX "31\_l%ists";
CREATE INDEX pages_lists ON pages USING maxsim (embedding) WITH (lists = 4);
SELECT documents, tokens, flat_documents, dimensions, lists, drift IS NULL AS no_drift, advice FROM infinity_embed.index_info('pages_lists');
INSERT INTO pages VALUES (12, 'even', near(1.2));
SELECT documents, lists, drift IS NULL AS no_drift FROM infinity_embed.index_info('pages_lists');
SELECT * FROM infinity_embed.check_index('pages_lists');
DROP INDEX pages_embedding;
SELECT id FROM pages ORDER BY embedding @# near(0.5) LIMIT 3;
ALTER INDEX pages_lists SET (lists = 0);
REINDEX INDEX pages_lists;
SELECT lists, advice FROM infinity_embed.index_info('pages_lists');
CREATE TABLE nothing (embedding multivector(2));
CREATE INDEX nothing_embedding ON nothing USING maxsim (embedding) WITH (lists = 1000);
SELECT documents, tokens, lists, advice FROM infinity_embed.index_info('nothing_embedding');
SELECT count(*) FROM (SELECT embedding @# near(1) FROM nothing ORDER BY 1) AS found;
SELECT count(*) FROM (SELECT embedding @# NULL::real[] FROM nothing ORDER BY 1) AS found;

-- What there is no index for.
CREATE UNIQUE INDEX ON pages USING maxsim (embedding);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX ON pages USING maxsim (embedding, embedding);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX ON pages USING maxsim (embedding) INCLUDE (id);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX ON pages USING maxsim (embedding DESC);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX ON pages USING maxsim (id);
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY sqlstate
ALTER TABLE pages ADD EXCLUDE USING maxsim (embedding WITH @#);
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE

-- What the functions say, and of what.
\set SHOW_CONTEXT never
SELECT id FROM pages ORDER BY embedding @# near(0.5) LIMIT 1;
SELECT swept, scored > 0 AS scored FROM infinity_embed.last_search();
SELECT queries, recall FROM infinity_embed.measure_recall('pages_lists', sample => 5, k => 3);
SELECT queries, recall FROM infinity_embed.measure_recall('pages_lists', query_source => 'SELECT near(0.5)');
SELECT queries, recall FROM infinity_embed.measure_recall('nothing_embedding');
SELECT infinity_embed.measure_recall('pages_lists', sample => 0);
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.measure_recall('pages_lists', k => NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.measure_recall('pages_pkey');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.measure_recall('pages');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.measure_recall('parted_embedding');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.measure_recall('pages_lists', query_source => 'SELECT 1');
\echo :LAST_ERROR_SQLSTATE
CREATE ROLE index_reader;
SET ROLE index_reader;
SELECT infinity_embed.index_info('pages_lists');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.measure_recall('pages_lists');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
GRANT SELECT ON pages TO index_reader;
SET ROLE index_reader;
SELECT lists FROM infinity_embed.index_info('pages_lists');
RESET ROLE;
DROP OWNED BY index_reader;
DROP ROLE index_reader;
SELECT infinity_embed.index_info('pages_pkey');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.index_info('pages');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.index_info('parted_embedding');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.check_index('pages_pkey');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.check_index('pages');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.check_index('parted_embedding');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.check_index(0);
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.check_index(NULL);

-- The catalogs agree with the code.
SELECT opcname, amvalidate(oid) FROM pg_opclass
WHERE opcmethod = (SELECT oid FROM pg_am WHERE amname = 'maxsim') ORDER BY 1;
SELECT property, pg_index_column_has_property('pages_lists', 1, property) AS has
FROM unnest(ARRAY['asc', 'orderable', 'distance_orderable', 'returnable', 'search_array', 'search_nulls']) AS property;
SELECT property, pg_indexam_has_property((SELECT oid FROM pg_am WHERE amname = 'maxsim'), property) AS has
FROM unnest(ARRAY['can_order', 'can_unique', 'can_multi_col', 'can_exclude', 'can_include']) AS property;
