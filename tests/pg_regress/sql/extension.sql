-- The objects of the extension as the catalogs have them.

SELECT relocatable, superuser, trusted, schema
FROM pg_available_extension_versions v
WHERE v.name = 'infinity_embed' AND v.installed;

-- Volatility, strictness, parallel safety and cost are spelled out for every function. Unaligned, so that a new one changes one line.
CREATE VIEW members AS
SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
WHERE e.extname = 'infinity_embed' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';

\pset format unaligned
SELECT p.oid::regprocedure AS function, provolatile AS volatile, proisstrict AS strict,
       proparallel AS parallel, procost AS cost, prorows AS rows
FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
ORDER BY p.pronamespace::regnamespace::text COLLATE "C", p.oid::regprocedure::text COLLATE "C";
\pset format aligned

SELECT o.oid::regoperator AS operator, o.oprcom::regoperator AS commutator, o.oprcode
FROM members m JOIN pg_operator o ON m.classid = 'pg_operator'::regclass AND o.oid = m.objid
ORDER BY o.oid::regoperator::text COLLATE "C";

-- Every object has a comment.
SELECT pg_describe_object(classid, objid, 0) AS without_comment
FROM members WHERE obj_description(objid, classid::regclass::name) IS NULL;

-- Nobody but the owner calls out until that is allowed.
SELECT p.proname AS revoked FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
WHERE NOT has_function_privilege('public', p.oid, 'EXECUTE')
ORDER BY p.proname COLLATE "C";

-- A schema of the administration's name belongs to somebody else: nothing is overwritten.
DROP VIEW members;
DROP EXTENSION infinity_embed;
CREATE SCHEMA infinity_embed;
CREATE EXTENSION infinity_embed;
\echo :LAST_ERROR_SQLSTATE
DROP SCHEMA infinity_embed;

-- The installer chooses the schema of what users call.
CREATE SCHEMA search;
CREATE EXTENSION infinity_embed SCHEMA search;
SELECT search.maxsim('{{1,0}}'::real[], '{{1,0}}'::real[]);
SELECT infinity_embed.outgoing_functions();
DROP EXTENSION infinity_embed;
DROP SCHEMA search;
