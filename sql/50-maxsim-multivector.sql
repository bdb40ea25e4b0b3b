-- Scores of multivector documents; queries are multivectors or arrays. The support function tells the
-- planner what reading a document costs.

CREATE FUNCTION maxsim(document multivector, query multivector) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_multivector_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION maxsim(multivector, multivector) IS
    'late-interaction score: sum over query tokens of the best dot product among document tokens';

CREATE FUNCTION infinity_embed.maxsim_negative(document multivector, query multivector) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_multivector_negative_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION infinity_embed.maxsim_negative(multivector, multivector) IS
    'implementation of @# operator';

CREATE OPERATOR @# (
    LEFTARG = multivector, RIGHTARG = multivector, FUNCTION = infinity_embed.maxsim_negative);
COMMENT ON OPERATOR @# (multivector, multivector) IS
    'document @# query: negative MaxSim score, so that ascending order is best first';

CREATE FUNCTION maxsim(document multivector, query real[]) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_multivector_array_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION maxsim(multivector, real[]) IS
    'late-interaction score: sum over query tokens of the best dot product among document tokens';

CREATE FUNCTION infinity_embed.maxsim_negative(document multivector, query real[]) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_multivector_array_negative_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION infinity_embed.maxsim_negative(multivector, real[]) IS
    'implementation of @# operator';

CREATE OPERATOR @# (
    LEFTARG = multivector, RIGHTARG = real[], FUNCTION = infinity_embed.maxsim_negative);
COMMENT ON OPERATOR @# (multivector, real[]) IS
    'document @# query: negative MaxSim score, so that ascending order is best first';

CREATE FUNCTION maxsim(document multivector, query double precision[]) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_multivector_array_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION maxsim(multivector, double precision[]) IS
    'late-interaction score: sum over query tokens of the best dot product among document tokens';

CREATE FUNCTION infinity_embed.maxsim_negative(document multivector, query double precision[]) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_multivector_array_negative_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION infinity_embed.maxsim_negative(multivector, double precision[]) IS
    'implementation of @# operator';

CREATE OPERATOR @# (
    LEFTARG = multivector, RIGHTARG = double precision[], FUNCTION = infinity_embed.maxsim_negative);
COMMENT ON OPERATOR @# (multivector, double precision[]) IS
    'document @# query: negative MaxSim score, so that ascending order is best first';

CREATE FUNCTION maxsim_normalized(document real[], query real[]) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_normalized_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION maxsim_normalized(real[], real[]) IS
    'maxsim divided by the number of query tokens';

CREATE FUNCTION maxsim_normalized(document double precision[], query double precision[]) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_normalized_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION maxsim_normalized(double precision[], double precision[]) IS
    'maxsim divided by the number of query tokens';

CREATE FUNCTION maxsim_normalized(document multivector, query multivector) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_multivector_normalized_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION maxsim_normalized(multivector, multivector) IS
    'maxsim divided by the number of query tokens';

CREATE FUNCTION maxsim_normalized(document multivector, query real[]) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_multivector_array_normalized_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION maxsim_normalized(multivector, real[]) IS
    'maxsim divided by the number of query tokens';

CREATE FUNCTION maxsim_normalized(document multivector, query double precision[]) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_multivector_array_normalized_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION maxsim_normalized(multivector, double precision[]) IS
    'maxsim divided by the number of query tokens';

CREATE FUNCTION maxsim_explain(
    document real[], query real[],
    OUT query_token integer, OUT document_token integer, OUT similarity real) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'maxsim_explain_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 ROWS 32;
COMMENT ON FUNCTION maxsim_explain(real[], real[]) IS
    'for each query token, the document token that it matched and their dot product';

CREATE FUNCTION maxsim_explain(
    document double precision[], query double precision[],
    OUT query_token integer, OUT document_token integer, OUT similarity real) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'maxsim_explain_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 ROWS 32;
COMMENT ON FUNCTION maxsim_explain(double precision[], double precision[]) IS
    'for each query token, the document token that it matched and their dot product';

CREATE FUNCTION maxsim_explain(
    document multivector, query multivector,
    OUT query_token integer, OUT document_token integer, OUT similarity real) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'maxsim_multivector_explain_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 ROWS 32;
COMMENT ON FUNCTION maxsim_explain(multivector, multivector) IS
    'for each query token, the document token that it matched and their dot product';

CREATE FUNCTION maxsim_explain(
    document multivector, query real[],
    OUT query_token integer, OUT document_token integer, OUT similarity real) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'maxsim_multivector_array_explain_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 ROWS 32;
COMMENT ON FUNCTION maxsim_explain(multivector, real[]) IS
    'for each query token, the document token that it matched and their dot product';

CREATE FUNCTION maxsim_explain(
    document multivector, query double precision[],
    OUT query_token integer, OUT document_token integer, OUT similarity real) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'maxsim_multivector_array_explain_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 ROWS 32;
COMMENT ON FUNCTION maxsim_explain(multivector, double precision[]) IS
    'for each query token, the document token that it matched and their dot product';
