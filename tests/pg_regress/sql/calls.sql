-- Calls that need no server: NULL, empty arrays, and what is wrong before anything is sent.
SET infinity_embed.url = 'http://127.0.0.1:1';
SET infinity_embed.max_retries = 0;

SELECT infinity_embed_text(NULL) IS NULL AS text, infinity_embed_image(NULL) IS NULL AS image;
SELECT * FROM infinity_embed_texts(NULL);
SELECT * FROM infinity_embed_texts('{}');
SELECT * FROM infinity_embed_images('{}');
SELECT n, embedding IS NULL AS is_null
FROM infinity_embed_texts(ARRAY[NULL, NULL]) WITH ORDINALITY AS e(embedding, n);

-- Nobody listens at port 1.
SELECT infinity_embed_text('hello');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed_texts('{hello,world}');
\echo :LAST_ERROR_SQLSTATE
SELECT url, reachable, model, dimension, latency_ms, problem FROM infinity_embed_health();
SELECT * FROM infinity_embed_models();
\echo :LAST_ERROR_SQLSTATE

-- Broken images are refused here: sent, one of them would stop an Infinity server for good.
SELECT infinity_embed_image('\x010203');
\echo :LAST_ERROR_SQLSTATE
SELECT infinity_embed_image('');
SELECT infinity_embed_image(convert_to('%PDF-1.7 and so on', 'UTF8'));
SELECT infinity_embed_image('\xffd8ffe000104a46494600010100000100010000');
SELECT * FROM infinity_embed_images(ARRAY[NULL, '\x010203'::bytea]);

-- Too long a text.
SELECT infinity_embed_text(repeat('a', 122881));
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM infinity_embed_texts(ARRAY['fine', repeat('ä', 200000)]);
\echo :LAST_ERROR_SQLSTATE

