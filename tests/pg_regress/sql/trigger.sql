-- Triggers: what needs no server. What they embed is tested end to end.
SET infinity_embed.url = 'http://127.0.0.1:1';
SET infinity_embed.max_retries = 0;
CREATE TABLE docs (id int PRIMARY KEY, body text, scan bytea, n int, embedding real[], other double precision[]);

-- Wrong kinds of trigger.
CREATE TRIGGER wrong AFTER INSERT ON docs
    FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding');
INSERT INTO docs (id, body) VALUES (1, 'a');
\echo :LAST_ERROR_SQLSTATE
DROP TRIGGER wrong ON docs;
CREATE TRIGGER wrong BEFORE INSERT ON docs
    FOR EACH STATEMENT EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding');
INSERT INTO docs (id, body) VALUES (1, 'a');
DROP TRIGGER wrong ON docs;
INSERT INTO docs (id) VALUES (0);
CREATE TRIGGER wrong BEFORE DELETE ON docs
    FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding');
DELETE FROM docs;
DROP TRIGGER wrong ON docs;
DELETE FROM docs;
SELECT infinity_embed_text_trigger();
\echo :LAST_ERROR_SQLSTATE

-- Wrong arguments.
CREATE FUNCTION try(arguments text, of text DEFAULT 'text') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON docs
        FOR EACH ROW EXECUTE FUNCTION infinity_embed_%s_trigger(%s)', of, arguments);
    INSERT INTO docs (id, body) VALUES (1, 'a');
END $$;
\set VERBOSITY terse
SELECT try('');
\echo :LAST_ERROR_SQLSTATE
SELECT try($$'body'$$);
SELECT try($$'bdoy', 'embedding'$$);
\echo :LAST_ERROR_SQLSTATE
SELECT try($$'Body', 'embedding'$$);
SELECT try($$'body', 'ctid'$$);
SELECT try($$'n', 'embedding'$$);
\echo :LAST_ERROR_SQLSTATE
SELECT try($$'body', 'n'$$);
SELECT try($$'body', 'other'$$);
SELECT try($$'scan', 'embedding'$$);
SELECT try($$'body', 'embedding'$$, 'image');
\set VERBOSITY default

-- A server that is down fails the statement and loses nothing.
CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON docs
    FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding');
INSERT INTO docs (id, body) VALUES (1, 'a');
\echo :LAST_ERROR_SQLSTATE
-- No source, no request.
INSERT INTO docs (id, body, embedding) VALUES (2, NULL, '{{1,2}}');
SELECT id, embedding FROM docs;
-- An unchanged source is not embedded again, whatever else changes, and whatever the target is.
ALTER TABLE docs DISABLE TRIGGER embed;
INSERT INTO docs (id, body, embedding) VALUES (3, 'a', '{{1,2}}'), (4, repeat('long ', 100000), '{{3,4}}');
ALTER TABLE docs ENABLE TRIGGER embed;
UPDATE docs SET n = 1 RETURNING id, embedding;
UPDATE docs SET body = 'a', embedding = NULL WHERE id = 3 RETURNING id, embedding;
UPDATE docs SET body = repeat('long ', 100000) WHERE id = 4 RETURNING id, embedding;
UPDATE docs SET body = 'b' WHERE id = 3;
-- A source that becomes NULL takes its embedding with it.
UPDATE docs SET body = NULL WHERE id = 4 RETURNING id, embedding;

-- Generated columns are computed after BEFORE triggers: refused, rather than NULL or overwritten in silence.
CREATE TABLE generated (body text, whole text GENERATED ALWAYS AS (body || '!') STORED, embedding real[]);
CREATE TRIGGER embed BEFORE INSERT ON generated
    FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('whole', 'embedding');
INSERT INTO generated VALUES ('a');
\echo :LAST_ERROR_SQLSTATE
DROP TABLE generated;

DROP TABLE docs;
DROP FUNCTION try;
