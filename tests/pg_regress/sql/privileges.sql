-- infinity_embed.allow(role) is the one call that lets a role call out.
LOAD 'infinity_embed';
SET infinity_embed.url = 'http://127.0.0.1:1';
CREATE ROLE "regress Embedder";

SET ROLE "regress Embedder";
SELECT maxsim('{{1}}'::real[], '{{2}}'::real[]);
SELECT infinity_embed_text('a');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.allow('"regress Embedder"');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;

SELECT infinity_embed.allow('nobody_at_all');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.allow('-');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed.disallow(0);
SELECT infinity_embed.allow('"regress Embedder"');
SELECT f AS allowed FROM infinity_embed.outgoing_functions() f
WHERE has_function_privilege('regress Embedder', f, 'EXECUTE');
SET ROLE "regress Embedder";
SELECT infinity_embed_text(NULL) IS NULL AS may_call;
-- A path on the server is for those who may see the setting.
RESET ROLE;
SET infinity_embed.api_key_file = '/no/such/file';
SET ROLE "regress Embedder";
SELECT infinity_embed_text('a');
RESET ROLE;

RESET infinity_embed.api_key_file;
SELECT infinity_embed.disallow('"regress Embedder"');
SELECT count(*) AS still_allowed FROM infinity_embed.outgoing_functions() f
WHERE has_function_privilege('regress Embedder', f, 'EXECUTE');

-- Whoever may not call the trigger function may not make a trigger of it.
CREATE SCHEMA theirs AUTHORIZATION "regress Embedder";
SET ROLE "regress Embedder";
CREATE TABLE theirs.docs (body text, embedding real[]);
CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON theirs.docs
    FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;

DROP SCHEMA theirs CASCADE;
DROP ROLE "regress Embedder";
