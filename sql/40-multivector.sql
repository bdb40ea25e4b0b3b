-- The type: token vectors of one dimension, stored compactly. STORAGE external: float vectors do not
-- compress. ALIGNMENT double: kernels read the payload in place.

CREATE TYPE multivector;

CREATE FUNCTION infinity_embed.multivector_in(cstring, oid, integer) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_in_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION infinity_embed.multivector_in(cstring, oid, integer) IS 'I/O';

CREATE FUNCTION infinity_embed.multivector_out(multivector) RETURNS cstring
    AS 'MODULE_PATHNAME', 'multivector_out_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION infinity_embed.multivector_out(multivector) IS 'I/O';

CREATE FUNCTION infinity_embed.multivector_recv(internal, oid, integer) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_recv_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION infinity_embed.multivector_recv(internal, oid, integer) IS 'I/O';

CREATE FUNCTION infinity_embed.multivector_send(multivector) RETURNS bytea
    AS 'MODULE_PATHNAME', 'multivector_send_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION infinity_embed.multivector_send(multivector) IS 'I/O';

CREATE FUNCTION infinity_embed.multivector_typmod_in(cstring[]) RETURNS integer
    AS 'MODULE_PATHNAME', 'multivector_typmod_in_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION infinity_embed.multivector_typmod_in(cstring[]) IS 'I/O typmod';

CREATE FUNCTION infinity_embed.multivector_typmod_out(integer) RETURNS cstring
    AS 'MODULE_PATHNAME', 'multivector_typmod_out_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION infinity_embed.multivector_typmod_out(integer) IS 'I/O typmod';

CREATE TYPE multivector (
    INPUT = infinity_embed.multivector_in, OUTPUT = infinity_embed.multivector_out,
    RECEIVE = infinity_embed.multivector_recv, SEND = infinity_embed.multivector_send,
    TYPMOD_IN = infinity_embed.multivector_typmod_in,
    TYPMOD_OUT = infinity_embed.multivector_typmod_out,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = external);
COMMENT ON TYPE multivector IS
    'token vectors of one dimension: multivector(128), (128, f16), (128, int8), (128, bit)';

-- Casts. Nothing lossy is implicit: only the column's own modifier is applied without being asked, as
-- numeric's is.

CREATE FUNCTION infinity_embed.multivector_apply_typmod(multivector, integer, boolean) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_apply_typmod_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_apply_typmod(multivector, integer, boolean) IS
    'applies the type modifier of a column';

CREATE CAST (multivector AS multivector)
    WITH FUNCTION infinity_embed.multivector_apply_typmod(multivector, integer, boolean) AS IMPLICIT;
COMMENT ON CAST (multivector AS multivector) IS 'applies the type modifier of a column';

CREATE FUNCTION infinity_embed.multivector_from_array(real[], integer, boolean) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_from_array_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_from_array(real[], integer, boolean) IS
    'cast: one token per row of the array';

CREATE CAST (real[] AS multivector)
    WITH FUNCTION infinity_embed.multivector_from_array(real[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (real[] AS multivector) IS 'one token per row of the array';

CREATE FUNCTION infinity_embed.multivector_from_array(double precision[], integer, boolean) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_from_array_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_from_array(double precision[], integer, boolean) IS
    'cast: one token per row of the array';

CREATE CAST (double precision[] AS multivector)
    WITH FUNCTION infinity_embed.multivector_from_array(double precision[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (double precision[] AS multivector) IS 'one token per row of the array';

CREATE FUNCTION infinity_embed.multivector_to_real_array(multivector) RETURNS real[]
    AS 'MODULE_PATHNAME', 'multivector_to_real_array_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_to_real_array(multivector) IS
    'cast: tokens x dim';

CREATE CAST (multivector AS real[])
    WITH FUNCTION infinity_embed.multivector_to_real_array(multivector) AS ASSIGNMENT;
COMMENT ON CAST (multivector AS real[]) IS 'tokens x dim';

CREATE FUNCTION infinity_embed.multivector_to_double_array(multivector) RETURNS double precision[]
    AS 'MODULE_PATHNAME', 'multivector_to_double_array_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_to_double_array(multivector) IS
    'cast: tokens x dim';

CREATE CAST (multivector AS double precision[])
    WITH FUNCTION infinity_embed.multivector_to_double_array(multivector) AS ASSIGNMENT;
COMMENT ON CAST (multivector AS double precision[]) IS 'tokens x dim';

-- Equality of numbers and element type, and the hash that goes with it.

CREATE FUNCTION infinity_embed.multivector_eq(multivector, multivector) RETURNS boolean
    AS 'MODULE_PATHNAME', 'multivector_eq_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_eq(multivector, multivector) IS
    'implementation of = operator';

CREATE FUNCTION infinity_embed.multivector_ne(multivector, multivector) RETURNS boolean
    AS 'MODULE_PATHNAME', 'multivector_ne_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_ne(multivector, multivector) IS
    'implementation of <> operator';

CREATE FUNCTION infinity_embed.multivector_hash(multivector) RETURNS integer
    AS 'MODULE_PATHNAME', 'multivector_hash_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_hash(multivector) IS
    'hash';

CREATE FUNCTION infinity_embed.multivector_hash_extended(multivector, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'multivector_hash_extended_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_hash_extended(multivector, bigint) IS
    'hash';

CREATE OPERATOR = (
    LEFTARG = multivector, RIGHTARG = multivector, FUNCTION = infinity_embed.multivector_eq,
    COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES);
COMMENT ON OPERATOR = (multivector, multivector) IS 'same element type and same numbers';

CREATE OPERATOR <> (
    LEFTARG = multivector, RIGHTARG = multivector, FUNCTION = infinity_embed.multivector_ne,
    COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel);
COMMENT ON OPERATOR <> (multivector, multivector) IS 'not the same element type or numbers';

CREATE OPERATOR CLASS multivector_hash_ops DEFAULT FOR TYPE multivector USING hash AS
    OPERATOR 1 =,
    FUNCTION 1 infinity_embed.multivector_hash(multivector),
    FUNCTION 2 infinity_embed.multivector_hash_extended(multivector, bigint);
COMMENT ON OPERATOR CLASS multivector_hash_ops USING hash IS 'equality of multivectors';
COMMENT ON OPERATOR FAMILY multivector_hash_ops USING hash IS 'equality of multivectors';

-- Functions.

CREATE FUNCTION multivector_dims(value multivector) RETURNS integer
    AS 'MODULE_PATHNAME', 'multivector_dims_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION multivector_dims(multivector) IS
    'dimension of the token vectors';

CREATE FUNCTION multivector_tokens(value multivector) RETURNS integer
    AS 'MODULE_PATHNAME', 'multivector_tokens_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION multivector_tokens(multivector) IS
    'number of tokens';

CREATE FUNCTION multivector_element_type(value multivector) RETURNS text
    AS 'MODULE_PATHNAME', 'multivector_element_type_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION multivector_element_type(multivector) IS
    'how components are stored: f32, f16, int8 or bit';

CREATE FUNCTION multivector_normalize(value multivector) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_normalize_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION multivector_normalize(multivector) IS
    'every token scaled to length one, stored as it was';

CREATE FUNCTION multivector_slice(value multivector, first integer, last integer) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_slice_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION multivector_slice(multivector, integer, integer) IS
    'tokens first to last, counted from 1, both included';

CREATE FUNCTION multivector_mean(value multivector) RETURNS real[]
    AS 'MODULE_PATHNAME', 'multivector_mean_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION multivector_mean(multivector) IS
    'mean of the tokens, one vector';

CREATE FUNCTION multivector_pool(value multivector, factor integer) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_pool_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION multivector_pool(multivector, integer) IS
    'factor times fewer tokens, by Ward clustering of similar ones';

CREATE FUNCTION multivector_unnest(value multivector) RETURNS SETOF real[]
    AS 'MODULE_PATHNAME', 'multivector_unnest_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000 ROWS 128;
COMMENT ON FUNCTION multivector_unnest(multivector) IS
    'one row per token in order';

CREATE FUNCTION infinity_embed.multivector_agg_step(internal, real[]) RETURNS internal
    AS 'MODULE_PATHNAME', 'multivector_agg_step_wrapper'
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_agg_step(internal, real[]) IS
    'aggregate transition function';

CREATE FUNCTION infinity_embed.multivector_agg_step(internal, double precision[]) RETURNS internal
    AS 'MODULE_PATHNAME', 'multivector_agg_step_wrapper'
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_agg_step(internal, double precision[]) IS
    'aggregate transition function';

CREATE FUNCTION infinity_embed.multivector_agg_final(internal) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_agg_final_wrapper'
    LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_agg_final(internal) IS 'aggregate final function';

CREATE AGGREGATE multivector_agg(token real[]) (
    SFUNC = infinity_embed.multivector_agg_step, STYPE = internal,
    FINALFUNC = infinity_embed.multivector_agg_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE multivector_agg(real[]) IS
    'a multivector of the rows, in the order in which they come';

CREATE AGGREGATE multivector_agg(token double precision[]) (
    SFUNC = infinity_embed.multivector_agg_step, STYPE = internal,
    FINALFUNC = infinity_embed.multivector_agg_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE multivector_agg(double precision[]) IS
    'a multivector of the rows, in the order in which they come';
