-- Administration lives in a schema of its own, which the extension owns. No IF NOT EXISTS: a
-- schema of that name that is already there belongs to somebody else.
CREATE SCHEMA infinity_embed;
GRANT USAGE ON SCHEMA infinity_embed TO PUBLIC;
COMMENT ON SCHEMA infinity_embed IS 'administration of the extension infinity_embed';
