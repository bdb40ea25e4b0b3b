-- Settings: defaults, units, ranges, who may set and see them.
LOAD 'infinity_embed';
RESET infinity_embed.url;

SELECT name, setting, unit, context, vartype, min_val, max_val, enumvals
FROM pg_settings WHERE name LIKE 'infinity\_embed.%' AND name <> 'infinity_embed.url' ORDER BY name COLLATE "C";
SHOW infinity_embed.timeout;
SHOW infinity_embed.cache_size;

-- Seconds where no unit is given; PostgreSQL's units work.
SET infinity_embed.timeout = 30;
SHOW infinity_embed.timeout;
SET infinity_embed.timeout = '1500ms';
SHOW infinity_embed.timeout;
SET infinity_embed.timeout = '2min';
SHOW infinity_embed.timeout;
SET infinity_embed.cache_size = '8MB';
SHOW infinity_embed.cache_size;
SET infinity_embed.timeout = 0;
SET infinity_embed.max_retries = -1;
SET infinity_embed.embed_batch_size = 0;
SET infinity_embed.encoding = 'hex';
SET infinity_embed.hidden_dim = 16001;
SET infinity_embed.no_such_setting = 1;

-- A key is never shown, not even to a superuser.
SET infinity_embed.api_key = 'sk-very-secret';
SHOW infinity_embed.api_key;
SELECT current_setting('infinity_embed.api_key');
SELECT count(*) FROM pg_settings WHERE name = 'infinity_embed.api_key';
RESET infinity_embed.api_key;
SHOW infinity_embed.api_key;

-- Where bytes go is decided by superusers.
CREATE ROLE regress_embed_user;
SET ROLE regress_embed_user;
SET infinity_embed.url = 'http://192.0.2.1';
\echo :LAST_ERROR_SQLSTATE
SET infinity_embed.api_key = 'mine';
SET infinity_embed.api_key_file = '/etc/passwd';
SET infinity_embed.max_image_pixels = 100000000;
SET infinity_embed.max_response_size = '1GB';
SHOW infinity_embed.api_key;
SHOW infinity_embed.api_key_file;
SET infinity_embed.model_name = 'another';
SHOW infinity_embed.model_name;
RESET ROLE;
DROP ROLE regress_embed_user;

-- Wrong values are told at the call, with the next action.
SET infinity_embed.url = '';
SELECT infinity_embed_text('a');
\echo :LAST_ERROR_SQLSTATE
SET infinity_embed.url = 'localhost:7997';
SELECT infinity_embed_text('a');
\echo :LAST_ERROR_SQLSTATE
SET infinity_embed.url = 'http://user:sk-very-secret@localhost:7997';
SELECT infinity_embed_text('a');
\echo :LAST_ERROR_SQLSTATE
SET infinity_embed.url = 'http://127.0.0.1:1';
SET infinity_embed.model_name = '';
SELECT infinity_embed_text('a');
\echo :LAST_ERROR_SQLSTATE
RESET infinity_embed.model_name;
SET infinity_embed.api_key_file = '/no/such/file';
SELECT infinity_embed_text('a');
\echo :LAST_ERROR_SQLSTATE
SET infinity_embed.api_key_file = '.';
SELECT infinity_embed_text('a');
SET infinity_embed.api_key_file = '/dev/null';
SELECT infinity_embed_text('a');
SET infinity_embed.api_key_file = 'pg_hba.conf';
SELECT infinity_embed_text('a') IS NULL;
RESET infinity_embed.api_key_file;
SET infinity_embed.api_key = E'two\nlines';
SELECT infinity_embed_text('a');
\echo :LAST_ERROR_SQLSTATE

