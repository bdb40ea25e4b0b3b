-- The access method maxsim and its operator classes.

CREATE FUNCTION infinity_embed.maxsim_handler(internal) RETURNS index_am_handler
    AS 'MODULE_PATHNAME', 'maxsim_handler_wrapper'
    LANGUAGE c;
COMMENT ON FUNCTION infinity_embed.maxsim_handler(internal) IS 'handler of access method maxsim';

CREATE ACCESS METHOD maxsim TYPE INDEX HANDLER infinity_embed.maxsim_handler;
COMMENT ON ACCESS METHOD maxsim IS
    'late-interaction index: the rows of ORDER BY embedding @# query, best first';

CREATE OPERATOR FAMILY infinity_embed.multivector_maxsim_ops USING maxsim;
COMMENT ON OPERATOR FAMILY infinity_embed.multivector_maxsim_ops USING maxsim IS
    'maxsim indexes on multivector';
CREATE OPERATOR CLASS infinity_embed.multivector_maxsim_ops
    DEFAULT FOR TYPE multivector USING maxsim
    FAMILY infinity_embed.multivector_maxsim_ops AS
    OPERATOR 1 @# (multivector, multivector) FOR ORDER BY float_ops;
COMMENT ON OPERATOR CLASS infinity_embed.multivector_maxsim_ops USING maxsim IS
    'maxsim indexes on multivector of every element type';
ALTER OPERATOR FAMILY infinity_embed.multivector_maxsim_ops USING maxsim ADD
    OPERATOR 1 @# (multivector, real[]) FOR ORDER BY float_ops,
    OPERATOR 1 @# (multivector, double precision[]) FOR ORDER BY float_ops;

CREATE OPERATOR FAMILY infinity_embed.real_array_maxsim_ops USING maxsim;
COMMENT ON OPERATOR FAMILY infinity_embed.real_array_maxsim_ops USING maxsim IS
    'maxsim indexes on real[]';
CREATE OPERATOR CLASS infinity_embed.real_array_maxsim_ops
    DEFAULT FOR TYPE real[] USING maxsim
    FAMILY infinity_embed.real_array_maxsim_ops AS
    OPERATOR 1 @# (real[], real[]) FOR ORDER BY float_ops;
COMMENT ON OPERATOR CLASS infinity_embed.real_array_maxsim_ops USING maxsim IS
    'maxsim indexes on real[] of two dimensions';
ALTER OPERATOR FAMILY infinity_embed.real_array_maxsim_ops USING maxsim ADD
    OPERATOR 1 @# (real[], double precision[]) FOR ORDER BY float_ops;

CREATE FUNCTION infinity_embed.index_info(
    index regclass,
    OUT documents bigint,
    OUT tokens bigint,
    OUT flat_documents bigint,
    OUT dimensions integer,
    OUT lists integer,
    OUT signature_bytes bigint,
    OUT code_bytes bigint,
    OUT codebook_bytes bigint,
    OUT drift double precision,
    OUT advice text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'maxsim_index_info_wrapper'
    LANGUAGE c STRICT PARALLEL SAFE ROWS 1;
COMMENT ON FUNCTION infinity_embed.index_info(regclass) IS
    'what a maxsim index is made of, how far newer documents are from its centroids, and what to do about it';

CREATE FUNCTION infinity_embed.last_search(
    OUT swept bigint,
    OUT refined bigint,
    OUT scored bigint,
    OUT filtered bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'maxsim_last_search_wrapper'
    LANGUAGE c PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION infinity_embed.last_search() IS
    'documents that the last maxsim index scan of this session swept, refined by their codes, scored exactly, and left out by the condition';

CREATE FUNCTION infinity_embed.check_index(
    index regclass,
    content boolean DEFAULT false,
    OUT documents bigint,
    OUT rows bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'maxsim_check_index_content_wrapper'
    LANGUAGE c STRICT ROWS 1 COST 100000;
COMMENT ON FUNCTION infinity_embed.check_index(regclass, boolean) IS
    'raises an error where a maxsim index is damaged or disagrees with its table; content compares every embedding with its codes';
REVOKE EXECUTE ON FUNCTION infinity_embed.check_index(regclass, boolean) FROM PUBLIC;
