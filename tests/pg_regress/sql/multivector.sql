-- The type multivector: text, type modifiers, casts, equality.
SELECT '[[1,2],[3,4.5]]'::multivector, ' [ [1e-3 , -2] , [ 3, 4e20 ] ] '::multivector, '[[7]]'::multivector;
SELECT '[[1,2],[3,4.5]]'::multivector(2), '[[1,2],[3,4.5]]'::multivector(2, f16), '[[1,2],[3,4.5]]'::multivector(2, int8);
SELECT '[[1,2],[3,4.5]]'::multivector(2, F32) AS f32, multivector_element_type('[[1,-2]]'::multivector(2, bit)) AS bit;
-- What is printed reads back to the same value, element type included, wherever it is read.
SELECT multivector_element_type(value) AS element, value::text::multivector = value AS same, value::text::multivector(3, bit) = value AS as_bit
FROM (VALUES ('[[0.1,0.2,-3e-8],[1,2,3]]'::multivector), ('f16:[[0.1,0.2,-3e-8],[1,2,3]]'), ('int8:[[0.1,0.2,-3e-8],[1,2,3]]'), ('bit:[[0.1,0.2,-3e-8],[1,2,3]]')) v(value);
SELECT ' F16: [[0.1]]'::multivector, 'f32:[[0.1]]'::multivector, 'int8:[[0.1,3]]'::multivector(2, f16), 'bit:[[1,2]]'::multivector = '[[1,2]]'::multivector(2, bit) AS literal;
SELECT 'f8:[[0.1]]'::multivector;
\echo :LAST_ERROR_SQLSTATE
SELECT 'f16:[[70000]]'::multivector;
\echo :LAST_ERROR_SQLSTATE
-- Modifiers in other spellings; what is no word is no modifier.
SELECT '[[1]]'::multivector(1,F16), '[[1]]'::multivector ( 1 , "f16" ), '[[1]]'::multivector('1', 'INT8'), '[[1]]'::"multivector"(1, " bit ");
SELECT '[[1]]'::multivector(1.5);
SELECT '[[1]]'::multivector(1, '');
SELECT '[[1]]'::multivector(f16, 1);
SELECT '[[1]]'::multivector();

-- Arrays, domains and composites of it.
CREATE DOMAIN page AS multivector(2, f16) CHECK (multivector_tokens(VALUE) <= 2);
CREATE TYPE record_of_two AS (f32 multivector(2), bit multivector(2, bit));
CREATE TABLE parts (pages page[], plain multivector[], pair record_of_two);
INSERT INTO parts VALUES (ARRAY['[[1,2]]', '[[0.1,4],[5,6]]']::page[], ARRAY['[[1]]', NULL, 'int8:[[1,2]]']::multivector[], ROW('[[1,2]]', '[[1,1]]'));
SELECT * FROM parts;
SELECT pages::text::page[] = pages AS pages, plain::text::multivector[] = plain AS plain, pair::text::record_of_two IS NOT DISTINCT FROM pair AS pair FROM parts;
SELECT maxsim(pages[1], '[[1,0]]'::multivector), pages[2] @# '[[1,0]]'::multivector FROM parts;
INSERT INTO parts (pages) VALUES (ARRAY['[[1,2],[3,4],[5,6]]']::page[]);
\echo :LAST_ERROR_SQLSTATE
DROP TABLE parts;
DROP TYPE record_of_two;
DROP DOMAIN page;

-- Each mistake has its own message.
SELECT ''::multivector;
\echo :LAST_ERROR_SQLSTATE
SELECT '[1,2]'::multivector;
SELECT '[[1,2],[3,x]]'::multivector;
SELECT '[[1,2],[3,4]] and more'::multivector;
SELECT '[]'::multivector;
\echo :LAST_ERROR_SQLSTATE
SELECT '[[]]'::multivector;
SELECT '[[1,2],[3]]'::multivector;
\echo :LAST_ERROR_SQLSTATE
SELECT '[[1,NULL]]'::multivector;
\echo :LAST_ERROR_SQLSTATE
SELECT '[[1,NaN]]'::multivector;
\echo :LAST_ERROR_SQLSTATE
SELECT '[[1,-Infinity]]'::multivector;
SELECT '[[1,1e39]]'::multivector;
\echo :LAST_ERROR_SQLSTATE
SELECT '[[1,70000]]'::multivector(2, f16);
\echo :LAST_ERROR_SQLSTATE
SELECT '[[1,2]]'::multivector(3);
\echo :LAST_ERROR_SQLSTATE
SELECT '[[1,2]]'::multivector(0);
\echo :LAST_ERROR_SQLSTATE
SELECT '[[1,2]]'::multivector(16001);
SELECT '[[1,2]]'::multivector(two);
SELECT '[[1,2]]'::multivector(2, f64);
SELECT '[[1,2]]'::multivector(2, f16, 3);
SELECT array_fill(0.5::real, ARRAY[1, 16001])::multivector;
\echo :LAST_ERROR_SQLSTATE
SELECT array_fill(0.5::real, ARRAY[32769, 1])::multivector;
SELECT multivector_tokens(array_fill(0.5::real, ARRAY[32768, 1])::multivector), multivector_dims(array_fill(0.5::real, ARRAY[1, 16000])::multivector);

-- Columns: a modifier is a promise, and storing rounds to its element type.
CREATE TABLE kinds (id int, f32 multivector(2), f16 multivector(2, f16), int8 multivector(2, int8), bit multivector(2, bit), any_kind multivector);
SELECT attname, format_type(atttypid, atttypmod), attstorage FROM pg_attribute WHERE attrelid = 'kinds'::regclass AND attnum > 1 ORDER BY attnum;
INSERT INTO kinds SELECT 1, a, a, a, a, a FROM (SELECT '{{1,2},{3,4.1}}'::real[]) v(a);
INSERT INTO kinds SELECT 2, d, d, d, d, d FROM (SELECT '{{1,2},{3,4.1}}'::double precision[]) v(d);
INSERT INTO kinds SELECT 3, f16, f32, f32, f32, int8 FROM kinds WHERE id = 1;
INSERT INTO kinds (id, f32) VALUES (4, '[[1,2,3]]');
SELECT id, f32, f16, int8, any_kind FROM kinds ORDER BY id;
SELECT id, multivector_element_type(f32), multivector_element_type(f16), multivector_element_type(int8), multivector_element_type(bit), multivector_element_type(any_kind) FROM kinds ORDER BY id;
SELECT f32::real[], f16::double precision[] FROM kinds WHERE id = 1;
CREATE TABLE arrays (a real[]);
INSERT INTO arrays SELECT f16 FROM kinds WHERE id = 1;
SELECT * FROM arrays;
INSERT INTO arrays VALUES ('{1,2}'), ('{}'), ('{{1,NULL}}'), ('{{1,NaN}}');
SELECT a::multivector FROM arrays WHERE a = '{1,2}';
SELECT a::multivector FROM arrays WHERE a = '{}';
SELECT a::multivector FROM arrays WHERE a[1][2] IS NULL AND cardinality(a) = 2 AND array_ndims(a) = 2;
SELECT a::multivector FROM arrays WHERE a[1][2] = 'NaN';

-- Equality is of numbers and element type; -0 is 0. It hashes, and does not sort.
SELECT '[[1,2]]'::multivector = '[[1,2.0]]' AS same, '[[1,2]]'::multivector <> '[[1,3]]' AS other, '[[-0,2]]'::multivector = '[[0,2]]' AS zero,
       '[[1,2]]'::multivector = '[[1],[2]]' AS shape, '[[1,2]]'::multivector(2) = '[[1,2]]'::multivector(2, f16) AS element;
SELECT f32, count(*) FROM kinds WHERE id < 3 GROUP BY f32;
SELECT count(*) FROM kinds a JOIN kinds b USING (f32) WHERE a.id < 3 AND b.id < 3;
SELECT count(*) FROM (SELECT DISTINCT f32 FROM kinds) AS d;
SELECT f32 FROM kinds ORDER BY f32;
\echo :LAST_ERROR_SQLSTATE

-- Binary out and in.
DO $$
DECLARE
    message bytea;
BEGIN
    FOR message IN SELECT infinity_embed.multivector_send(f32) FROM kinds WHERE id = 1 LOOP
        RAISE NOTICE '% bytes', length(message);
    END LOOP;
END $$;
DROP TABLE kinds, arrays;
