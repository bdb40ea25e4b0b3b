-- Page images in batches, then two through the trigger.
INSERT INTO pages (name, image)
    SELECT substring(name FROM 'pages/(.*)\.png') AS name, image FROM images
    WHERE name LIKE 'pages/%' AND name NOT IN ('pages/recipe.png', 'pages/timetable.png') ORDER BY name;

DO $$
DECLARE
    total bigint := count(*) FROM pages;
    finished bigint := 0;
    embedded bigint;
    started timestamptz := clock_timestamp();
BEGIN
    LOOP
        WITH round AS (
            SELECT array_agg(id ORDER BY id) AS ids, array_agg(image ORDER BY id) AS images
            FROM (SELECT id, image FROM pages WHERE embedding IS NULL ORDER BY id LIMIT 5) AS waiting
        )
        UPDATE pages SET embedding = answer.embedding
        FROM round, infinity_embed_images(round.images) WITH ORDINALITY AS answer(embedding, place)
        WHERE pages.id = round.ids[answer.place];
        GET DIAGNOSTICS embedded = ROW_COUNT;
        COMMIT;
        EXIT WHEN embedded = 0;
        finished := finished + embedded;
        RAISE INFO '% of % page images embedded, % s', finished, total,
            to_char(extract(epoch FROM clock_timestamp() - started), 'FM990.0');
    END LOOP;
END
$$;

CREATE TRIGGER pages_embed BEFORE INSERT OR UPDATE ON pages
    FOR EACH ROW EXECUTE FUNCTION infinity_embed_image_trigger('image', 'embedding');

INSERT INTO pages (name, image)
    SELECT substring(name FROM 'pages/(.*)\.png'), image FROM images
    WHERE name IN ('pages/recipe.png', 'pages/timetable.png');

DO $$
BEGIN
    RAISE INFO '% page images embedded by the trigger',
        (SELECT count(embedding) FROM pages WHERE name IN ('recipe', 'timetable'));
END
$$;
