\echo Use "CREATE EXTENSION infinity_embed_pgvector" to load this file. \quit

-- An extension of its own, so that infinity_embed does not need pgvector, and dump and restore know the
-- order. It has no library: the symbols are infinity_embed's.

CREATE FUNCTION infinity_embed.multivector_from_vectors(vector[], integer, boolean) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_from_vectors_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_from_vectors(vector[], integer, boolean) IS
    'cast: one token per vector';
CREATE CAST (vector[] AS multivector)
    WITH FUNCTION infinity_embed.multivector_from_vectors(vector[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (vector[] AS multivector) IS 'one token per vector';

CREATE FUNCTION infinity_embed.multivector_to_vectors(multivector) RETURNS vector[]
    AS 'MODULE_PATHNAME', 'multivector_to_vectors_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_to_vectors(multivector) IS 'cast: one vector per token';
CREATE CAST (multivector AS vector[])
    WITH FUNCTION infinity_embed.multivector_to_vectors(multivector) AS ASSIGNMENT;
COMMENT ON CAST (multivector AS vector[]) IS 'one vector per token';

CREATE FUNCTION infinity_embed.multivector_from_halfvecs(halfvec[], integer, boolean) RETURNS multivector
    AS 'MODULE_PATHNAME', 'multivector_from_halfvecs_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_from_halfvecs(halfvec[], integer, boolean) IS
    'cast: one token per vector';
CREATE CAST (halfvec[] AS multivector)
    WITH FUNCTION infinity_embed.multivector_from_halfvecs(halfvec[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (halfvec[] AS multivector) IS 'one token per vector';

CREATE FUNCTION infinity_embed.multivector_to_halfvecs(multivector) RETURNS halfvec[]
    AS 'MODULE_PATHNAME', 'multivector_to_halfvecs_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.multivector_to_halfvecs(multivector) IS 'cast: one vector per token';
CREATE CAST (multivector AS halfvec[])
    WITH FUNCTION infinity_embed.multivector_to_halfvecs(multivector) AS ASSIGNMENT;
COMMENT ON CAST (multivector AS halfvec[]) IS 'one vector per token';
