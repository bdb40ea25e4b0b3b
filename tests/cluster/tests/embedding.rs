//! The four functions that embed: order over batches and rounds, NULLs and empty arrays, shapes, padding, and the ways in
//! which SQL calls them.

use std::io::Cursor;
use std::time::Duration;

use cluster_tests::{Stage, matrices, matrix};
use image::{ImageFormat, Rgb, RgbImage};
use mock_infinity::{Model, Options};
use postgres::Client;

/// How far two answers for one input may lie apart: the server's values jitter with the batch they were in.
const JITTER: f32 = 1e-5;

fn run(client: &mut Client, statements: &str) {
    client
        .batch_execute(statements)
        .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

fn png(red: u8, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    RgbImage::from_pixel(width, height, Rgb([red, 255 - red, 90]))
        .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
        .unwrap();
    bytes
}

/// A literal of type bytea[].
fn array_of(pictures: &[Option<Vec<u8>>]) -> String {
    let elements = pictures.iter().map(|picture| match picture {
        None => "NULL".to_owned(),
        Some(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("'\\x{digits}'")
        }
    });
    format!(
        "ARRAY[{}]::bytea[]",
        elements.collect::<Vec<_>>().join(", ")
    )
}

#[test]
fn a_text_becomes_an_array_of_tokens_and_dimensions() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let embedding = matrix(&mut client, "infinity_embed_text('late interaction')");
    assert_eq!((embedding.tokens, embedding.dim), (4, 128));
    assert_eq!(embedding.values.len(), 4 * 128);
    assert!(embedding.values.iter().any(|value| *value != 0.0));
    let row = client
        .query_one(
            "SELECT pg_typeof(infinity_embed_text('a'))::text, array_dims(infinity_embed_text('a'))",
            &[],
        )
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "real[]");
    assert_eq!(row.get::<_, &str>(1), "[1:3][1:128]");
}

#[test]
fn many_texts_keep_their_order_over_batches_and_rounds() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    // 95 inputs are three rounds of four batches of ten; every text has another length, so a swap shows in the shape.
    let text = "repeat('word ' || i || ' ', i) || 'end ' || i";
    let many = matrices(
        &mut client,
        &format!(
            "infinity_embed_texts((SELECT array_agg({text} ORDER BY i) FROM generate_series(1, 95) i))"
        ),
    );
    assert_eq!(many.len(), 95);
    let mut batches = stage.batches();
    batches.sort();
    assert_eq!(batches, [vec![5], vec![10; 9]].concat());
    assert!((1..=4).contains(&stage.server.max_in_flight()));
    for (index, embedding) in many.iter().enumerate() {
        let one = format!(
            "infinity_embed_text((SELECT {text} FROM (VALUES ({})) AS v(i)))",
            index + 1
        );
        let alone = matrix(&mut client, &one);
        let distance = alone.distance(embedding.as_ref().unwrap());
        assert!(distance < JITTER, "text {}: {distance}", index + 1);
    }
}

#[test]
fn many_images_keep_their_order_too() {
    let stage = Stage::new(Model::colqwen2("colqwen2"));
    let mut client = stage.client();
    run(&mut client, "SET infinity_embed.embed_batch_size = 4");
    let pictures: Vec<_> = (0..18).map(|i| Some(png(i * 14, 64, 64))).collect();
    let many = matrices(
        &mut client,
        &format!("infinity_embed_images({})", array_of(&pictures)),
    );
    assert_eq!(many.len(), 18);
    assert_eq!(stage.batches().iter().sum::<usize>(), 18);
    for (picture, embedding) in pictures.iter().zip(&many) {
        let one = array_of(std::slice::from_ref(picture));
        let alone = matrix(&mut client, &format!("infinity_embed_image(({one})[1])"));
        assert!(alone.distance(embedding.as_ref().unwrap()) < JITTER);
    }
    assert!(
        many[0]
            .as_ref()
            .unwrap()
            .distance(many[17].as_ref().unwrap())
            > 0.01
    );
}

#[test]
fn null_in_is_null_out_also_inside_of_arrays() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let row = client
        .query_one(
            "SELECT infinity_embed_text(NULL) IS NULL, infinity_embed_image(NULL) IS NULL,
                (SELECT count(*) FROM infinity_embed_texts(NULL)),
                (SELECT count(*) FROM infinity_embed_images(NULL)),
                (SELECT count(*) FROM infinity_embed_texts('{}')),
                (SELECT count(*) FROM infinity_embed_images('{}')),
                (SELECT count(e) FROM infinity_embed_texts(ARRAY[NULL, NULL]) e),
                (SELECT count(*) FROM infinity_embed_texts(ARRAY[NULL, NULL]) e)",
            &[],
        )
        .unwrap();
    assert!(row.get::<_, bool>(0) && row.get::<_, bool>(1));
    let counts: Vec<i64> = (2..8).map(|index| row.get(index)).collect();
    assert_eq!(counts, [0, 0, 0, 0, 0, 2]);
    assert!(stage.requests().is_empty(), "nothing was to be asked");
    let some = matrices(
        &mut client,
        "infinity_embed_texts(ARRAY[NULL, 'one', NULL, 'one two', NULL])",
    );
    let tokens: Vec<_> = some.iter().map(|m| m.as_ref().map(|m| m.tokens)).collect();
    assert_eq!(tokens, [None, Some(3), None, Some(4), None]);
    assert_eq!(stage.batches(), [2]);
    let pictures = [None, Some(png(9, 40, 40)), None];
    let some = matrices(
        &mut client,
        &format!("infinity_embed_images({})", array_of(&pictures)),
    );
    let there: Vec<bool> = some.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, true, false]);
}

#[test]
fn the_elements_of_a_two_dimensional_array_come_in_row_major_order() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let texts = matrices(
        &mut client,
        "infinity_embed_texts(ARRAY[['a', 'a b'], ['a b c', 'a b c d']])",
    );
    let tokens: Vec<_> = texts.iter().map(|m| m.as_ref().unwrap().tokens).collect();
    assert_eq!(tokens, [3, 4, 5, 6]);
}

#[test]
fn the_empty_string_is_a_text() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let embedding = matrix(&mut client, "infinity_embed_text('')");
    assert_eq!(embedding.tokens, 2);
    assert_eq!(stage.batches(), [1]);
}

#[test]
fn the_zero_rows_that_pad_a_batch_never_reach_a_table() {
    for model in [Model::colqwen2("m"), Model::colpali("m")] {
        let kind = model.kind;
        let stage = Stage::new(model);
        let mut client = stage.client();
        let batch = matrices(
            &mut client,
            "infinity_embed_texts(ARRAY['hi', repeat('many words ', 60)])",
        );
        let padded = batch[0].as_ref().unwrap();
        let alone = matrix(&mut client, "infinity_embed_text('hi')");
        assert_eq!(padded.tokens, alone.tokens, "{kind:?}");
        assert!(padded.distance(&alone) < JITTER);
        for embedding in batch.iter().flatten().chain([&alone]) {
            assert!(
                embedding
                    .rows()
                    .all(|row| row.iter().any(|value| *value != 0.0)),
                "{kind:?}: a zero row"
            );
        }
    }
}

#[test]
fn other_clients_requests_do_not_change_the_number_of_tokens() {
    let stage = Stage::with_options(Options {
        latency: Duration::from_millis(300),
        ..Options::new(Model::colqwen2("m"))
    });
    let mut client = stage.client();
    let mut other = stage.client();
    let alone = matrix(&mut client, "infinity_embed_text('hi')");
    run(&mut client, "SET infinity_embed.cache_size = 0");
    let crowded = std::thread::scope(|scope| {
        scope.spawn(move || {
            run(
                &mut other,
                "SELECT infinity_embed_text(repeat('many words ', 90))",
            );
        });
        matrix(&mut client, "infinity_embed_text('hi')")
    });
    // The two were side by side, so the server padded the short one.
    assert_eq!(stage.server.max_in_flight(), 2);
    assert_eq!(crowded.tokens, alone.tokens);
    assert!(crowded.distance(&alone) < JITTER);
}

#[test]
fn an_image_of_any_format_is_one_array_of_patches() {
    let stage = Stage::new(Model::colpali("colpali"));
    let mut client = stage.client();
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let mut bytes = Vec::new();
        RgbImage::from_pixel(200, 90, Rgb([200, 30, 30]))
            .write_to(&mut Cursor::new(&mut bytes), format)
            .unwrap();
        let row = client
            .query_one(
                "SELECT array_dims(infinity_embed_image($1, 'colpali'))",
                &[&bytes],
            )
            .unwrap();
        assert_eq!(row.get::<_, &str>(0), "[1:1030][1:128]", "{format:?}");
    }
    let modalities: Vec<_> = stage.requests().into_iter().map(|r| r.modality).collect();
    assert_eq!(modalities, [Some("image".into()), Some("image".into())]);
}

#[test]
fn sql_calls_them_in_rows_from_lateral_joins_prepared_statements_and_plpgsql() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int PRIMARY KEY, body text);
         INSERT INTO docs VALUES (1, 'red fox'), (2, 'blue whale'), (3, NULL);
         CREATE FUNCTION tokens_of(body text) RETURNS int LANGUAGE plpgsql AS $$
         DECLARE e real[]; total int := 0;
         BEGIN
             e := infinity_embed_text(body);
             FOR e IN SELECT * FROM infinity_embed_texts(ARRAY[body, body]) LOOP
                 total := total + array_length(e, 1);
             END LOOP;
             RETURN total + array_length(e, 1);
         END $$;
         PREPARE embed(text) AS SELECT array_length(infinity_embed_text($1), 1)",
    );
    let mut text = |query: &str| -> String {
        let row = client
            .query_one(query, &[])
            .unwrap_or_else(|error| panic!("{query}: {error:?}"));
        row.get::<_, Option<String>>(0).unwrap_or("-".into())
    };
    assert_eq!(
        text(
            "SELECT string_agg(t || '=' || array_length(e, 1), ',') FROM ROWS FROM
             (unnest(ARRAY['a', 'a b']), infinity_embed_texts(ARRAY['a', 'a b'])) AS r(t, e)"
        ),
        "a=3,a b=4"
    );
    assert_eq!(
        text(
            "SELECT string_agg(id || '=' || coalesce(array_length(e, 1), 0), ',' ORDER BY id)
             FROM docs CROSS JOIN LATERAL infinity_embed_text(body) e"
        ),
        "1=4,2=4,3=0"
    );
    assert_eq!(text("SELECT tokens_of('a b')::text"), "12");
    // A LIMIT ends the calls: the second round is never asked for.
    stage.server.clear_requests();
    assert_eq!(
        text(
            "SELECT count(*)::text FROM (SELECT infinity_embed_texts(array_agg(i::text))
             FROM generate_series(1, 200) i LIMIT 5) s"
        ),
        "5"
    );
    assert_eq!(stage.batches(), [10; 4]);
    // Five executions take the prepared statement past custom plans; the same values come out.
    for _ in 0..7 {
        let row = client.simple_query("EXECUTE embed('a b c')").unwrap();
        let postgres::SimpleQueryMessage::Row(row) = &row[1] else {
            panic!("no row: {row:?}");
        };
        assert_eq!(row.get(0), Some("5"));
    }
    let row = client
        .query_one(
            "SELECT array_length(infinity_embed_text($1), 1)",
            &[&"a b c d"],
        )
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 6);
}
