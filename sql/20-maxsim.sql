-- The score. One symbol serves every pair of array types: real[] is read in place, double
-- precision[] (what drivers send) is narrowed. The operator has the mixed pairs too, so that a query
-- sent as double precision[] does not widen every document; the function has not, because PostgreSQL
-- would then find maxsim(embedding, '{{...}}') ambiguous.

-- The planner's question what a call costs: the document's TOAST pages.
CREATE FUNCTION infinity_embed.maxsim_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'maxsim_support_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION infinity_embed.maxsim_support(internal) IS
    'planner support: the cost of a score';

CREATE FUNCTION maxsim(document real[], query real[]) RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION maxsim(real[], real[]) IS
    'late-interaction score: sum over query tokens of the best dot product among document tokens';

CREATE FUNCTION maxsim(document double precision[], query double precision[])
    RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2000
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION maxsim(double precision[], double precision[]) IS
    'late-interaction score: sum over query tokens of the best dot product among document tokens';

CREATE FUNCTION infinity_embed.maxsim_negative(document real[], query real[])
    RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_negative_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION infinity_embed.maxsim_negative(real[], real[]) IS
    'implementation of @# operator';

CREATE FUNCTION infinity_embed.maxsim_negative(document real[], query double precision[])
    RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_negative_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION infinity_embed.maxsim_negative(real[], double precision[]) IS
    'implementation of @# operator';

CREATE FUNCTION infinity_embed.maxsim_negative(document double precision[], query real[])
    RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_negative_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2000
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION infinity_embed.maxsim_negative(double precision[], real[]) IS
    'implementation of @# operator';

CREATE FUNCTION infinity_embed.maxsim_negative(document double precision[], query double precision[])
    RETURNS double precision
    AS 'MODULE_PATHNAME', 'maxsim_negative_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2000
    SUPPORT infinity_embed.maxsim_support;
COMMENT ON FUNCTION infinity_embed.maxsim_negative(double precision[], double precision[]) IS
    'implementation of @# operator';

-- No commutator: the document stands left, the query right, and the score is not symmetric.
CREATE OPERATOR @# (
    LEFTARG = real[], RIGHTARG = real[], FUNCTION = infinity_embed.maxsim_negative);
COMMENT ON OPERATOR @# (real[], real[]) IS
    'document @# query: negative MaxSim score, so that ascending order is best first';

CREATE OPERATOR @# (
    LEFTARG = real[], RIGHTARG = double precision[], FUNCTION = infinity_embed.maxsim_negative);
COMMENT ON OPERATOR @# (real[], double precision[]) IS
    'document @# query: negative MaxSim score, so that ascending order is best first';

CREATE OPERATOR @# (
    LEFTARG = double precision[], RIGHTARG = real[], FUNCTION = infinity_embed.maxsim_negative);
COMMENT ON OPERATOR @# (double precision[], real[]) IS
    'document @# query: negative MaxSim score, so that ascending order is best first';

CREATE OPERATOR @# (
    LEFTARG = double precision[], RIGHTARG = double precision[],
    FUNCTION = infinity_embed.maxsim_negative);
COMMENT ON OPERATOR @# (double precision[], double precision[]) IS
    'document @# query: negative MaxSim score, so that ascending order is best first';
