-- Passages in batches: the way for rows that are there already. Each round is committed, so a break loses nothing.
INSERT INTO passages SELECT id, title, abstract FROM abstracts WHERE id % 15 <> 1;

DO $$
DECLARE
    total bigint := count(*) FROM passages;
    finished bigint := 0;
    embedded bigint;
    started timestamptz := clock_timestamp();
BEGIN
    LOOP
        WITH round AS (
            SELECT array_agg(id ORDER BY id) AS ids, array_agg(abstract ORDER BY id) AS abstracts
            FROM (SELECT id, abstract FROM passages WHERE embedding IS NULL ORDER BY id LIMIT 40) AS waiting
        )
        UPDATE passages SET embedding = answer.embedding
        FROM round, infinity_embed_texts(round.abstracts) WITH ORDINALITY AS answer(embedding, place)
        WHERE passages.id = round.ids[answer.place];
        GET DIAGNOSTICS embedded = ROW_COUNT;
        COMMIT;
        EXIT WHEN embedded = 0;
        finished := finished + embedded;
        RAISE INFO '% of % passages embedded, % s', to_char(finished, 'FM999'), total,
            to_char(extract(epoch FROM clock_timestamp() - started), 'FM990.0');
    END LOOP;
END
$$;

-- From here on the trigger embeds what comes in, one request per row.
CREATE TRIGGER passages_embed BEFORE INSERT OR UPDATE ON passages
    FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('abstract', 'embedding');

INSERT INTO passages SELECT id, title, abstract FROM abstracts WHERE id % 15 = 1;

DO $$
BEGIN
    RAISE INFO '% passages embedded by the trigger', (SELECT count(embedding) FROM passages WHERE id % 15 = 1);
END
$$;
