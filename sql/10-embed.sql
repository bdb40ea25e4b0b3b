-- What calls the Infinity server. STABLE, so that (SELECT infinity_embed_text('...')) is evaluated
-- once; PARALLEL RESTRICTED, since the connection belongs to the leader; COST of a network call.
-- Not STRICT: the model defaults to NULL. A NULL input gives NULL.

CREATE FUNCTION infinity_embed_text(input text, model text DEFAULT NULL) RETURNS real[]
    AS 'MODULE_PATHNAME', 'infinity_embed_text_wrapper'
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED COST 100000;
COMMENT ON FUNCTION infinity_embed_text(text, text) IS
    'embedding of a text as tokens x dim, from the Infinity server';

CREATE FUNCTION infinity_embed_texts(inputs text[], model text DEFAULT NULL) RETURNS SETOF real[]
    AS 'MODULE_PATHNAME', 'infinity_embed_texts_wrapper'
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED COST 100000 ROWS 100;
COMMENT ON FUNCTION infinity_embed_texts(text[], text) IS
    'embeddings of many texts in batches, one row per text in order';

CREATE FUNCTION infinity_embed_image(image bytea, model text DEFAULT NULL) RETURNS real[]
    AS 'MODULE_PATHNAME', 'infinity_embed_image_wrapper'
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED COST 1000000;
COMMENT ON FUNCTION infinity_embed_image(bytea, text) IS
    'embedding of an image (JPEG, PNG, GIF, WebP, BMP, TIFF) as tokens x dim, from the Infinity server';

CREATE FUNCTION infinity_embed_images(images bytea[], model text DEFAULT NULL) RETURNS SETOF real[]
    AS 'MODULE_PATHNAME', 'infinity_embed_images_wrapper'
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED COST 1000000 ROWS 100;
COMMENT ON FUNCTION infinity_embed_images(bytea[], text) IS
    'embeddings of many images in batches, one row per image in order';

CREATE FUNCTION infinity_embed_health(
    OUT url text, OUT reachable boolean, OUT model text, OUT dimension integer,
    OUT latency_ms double precision, OUT problem text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'infinity_embed_health_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 100000 ROWS 1;
COMMENT ON FUNCTION infinity_embed_health() IS
    'whether the Infinity server embeds, and in a sentence what is wrong if it does not';

CREATE FUNCTION infinity_embed_models(OUT id text, OUT backend text, OUT capabilities text[])
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'infinity_embed_models_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 100000 ROWS 3;
COMMENT ON FUNCTION infinity_embed_models() IS 'models that the Infinity server serves';
