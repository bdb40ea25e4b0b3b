-- BEFORE INSERT OR UPDATE ... FOR EACH ROW triggers, on the pattern of tsvector_update_trigger.

CREATE FUNCTION infinity_embed_text_trigger() RETURNS trigger
    AS 'MODULE_PATHNAME', 'infinity_embed_text_trigger_wrapper'
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION infinity_embed_text_trigger() IS
    'trigger (''source'', ''target'' [, ''model'']): keeps the embedding of a text column';

CREATE FUNCTION infinity_embed_image_trigger() RETURNS trigger
    AS 'MODULE_PATHNAME', 'infinity_embed_image_trigger_wrapper'
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000;
COMMENT ON FUNCTION infinity_embed_image_trigger() IS
    'trigger (''source'', ''target'' [, ''model'']): keeps the embedding of an image column';
