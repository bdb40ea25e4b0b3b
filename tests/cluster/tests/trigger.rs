//! The triggers that keep an embedding beside its source: what makes them ask the server, what they write, and what a
//! failure undoes. What needs no server (wrong arguments, wrong columns) is in pg_regress.

use std::io::{Cursor, Write};

use cluster_tests::{Stage, database_error, matrix};
use image::{ImageFormat, Rgb, RgbImage};
use mock_infinity::{Fault, Model, Options, Times};
use postgres::Client;

fn run(client: &mut Client, statements: &str) {
    client
        .batch_execute(statements)
        .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

/// A session on a table `docs` with a trigger from `body` to `embedding`. Cached texts would hide requests.
fn session(stage: &Stage) -> Client {
    let mut client = stage.client();
    run(
        &mut client,
        "SET infinity_embed.cache_size = 0;
         CREATE TABLE docs (id int PRIMARY KEY, body text, note text, embedding real[]);
         CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON docs
             FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding')",
    );
    client
}

/// Ids of the rows with the number of tokens of their embeddings: `1=3 2=-`.
fn tokens(client: &mut Client) -> String {
    let query = "SELECT coalesce(string_agg(id || '=' || coalesce(array_length(embedding, 1)::text, '-'), ' '
                 ORDER BY id), '') FROM docs";
    client.query_one(query, &[]).unwrap().get(0)
}

#[test]
fn the_embedding_follows_its_source() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = session(&stage);
    let mut after = |statement: &str, requests: usize, table: &str| {
        stage.server.clear_requests();
        run(&mut client, statement);
        assert_eq!(stage.requests().len(), requests, "{statement}");
        assert_eq!(tokens(&mut client), table, "{statement}");
    };
    after("INSERT INTO docs VALUES (1, 'a b')", 1, "1=4");
    after("INSERT INTO docs VALUES (2, NULL)", 0, "1=4 2=-");
    after("UPDATE docs SET body = 'a b c' WHERE id = 1", 1, "1=5 2=-");
    after("UPDATE docs SET body = 'a' WHERE id = 2", 1, "1=5 2=3");
    after("UPDATE docs SET note = 'seen'", 0, "1=5 2=3");
    after("UPDATE docs SET body = body", 0, "1=5 2=3");
    after("UPDATE docs SET body = NULL WHERE id = 2", 0, "1=5 2=-");
    after("UPDATE docs SET body = NULL", 0, "1=- 2=-");
    after("DELETE FROM docs", 0, "");
    // A long text is stored out of line, and is not embedded again as long as it stays what it is.
    let long = "SELECT string_agg(md5(i::text), ' ') FROM generate_series(1, 3000) i";
    after(&format!("INSERT INTO docs SELECT 3, ({long})"), 1, "3=256");
    after("UPDATE docs SET note = 'again'", 0, "3=256");
    after(&format!("UPDATE docs SET body = ({long})"), 0, "3=256");
    after("UPDATE docs SET body = body || '!'", 1, "3=256");
}

#[test]
fn its_value_is_that_of_the_function() {
    let stage = Stage::new(Model::colqwen2("colqwen2"));
    let mut client = session(&stage);
    run(
        &mut client,
        "INSERT INTO docs VALUES (1, 'Über den Wolken')",
    );
    let stored = matrix(&mut client, "embedding FROM docs");
    let called = matrix(&mut client, "infinity_embed_text('Über den Wolken')");
    assert!(stored.distance(&called) < 1e-5);
    let best = "SELECT id FROM docs ORDER BY embedding @# (SELECT infinity_embed_text('Wolken'))";
    assert_eq!(client.query_one(best, &[]).unwrap().get::<_, i32>(0), 1);
}

#[test]
fn copy_and_upsert_fire_it_for_each_row() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = session(&stage);
    let mut copy = client.copy_in("COPY docs (id, body) FROM STDIN").unwrap();
    for id in 1..=50 {
        writeln!(copy, "{id}\t{}", "word ".repeat(id % 5)).unwrap();
    }
    assert_eq!(copy.finish().unwrap(), 50);
    assert_eq!(stage.batches(), [1; 50]);
    let right = "SELECT count(*) FROM docs WHERE array_length(embedding, 1) = id % 5 + 2";
    assert_eq!(client.query_one(right, &[]).unwrap().get::<_, i64>(0), 50);
    run(&mut client, "DELETE FROM docs WHERE id > 2");
    let upsert = |body: &str| {
        format!(
            "INSERT INTO docs VALUES (2, '{body}'), (3, '{body}')
             ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body"
        )
    };
    run(&mut client, &upsert("p q r s t u"));
    assert_eq!(tokens(&mut client), "1=3 2=8 3=8");
    // Even a row that is not inserted passes the BEFORE INSERT trigger, but the update of the same body does not ask.
    stage.server.clear_requests();
    run(&mut client, &upsert("p q r s t u"));
    assert_eq!(stage.requests().len(), 2);
    assert_eq!(tokens(&mut client), "1=3 2=8 3=8");
}

#[test]
fn a_trigger_on_a_partitioned_table_serves_its_partitions() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int, body text, embedding real[]) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF docs FOR VALUES FROM (0) TO (10);
         -- Other column numbers than the parent's.
         CREATE TABLE high (embedding real[], extra int, body text, id int);
         ALTER TABLE high DROP COLUMN extra;
         ALTER TABLE docs ATTACH PARTITION high FOR VALUES FROM (10) TO (20);
         CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON docs
             FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding');
         INSERT INTO docs VALUES (1, 'a'), (11, 'a b'), (12, 'a b c')",
    );
    assert_eq!(tokens(&mut client), "1=3 11=4 12=5");
    run(
        &mut client,
        "UPDATE docs SET id = 13, body = 'a b c d' WHERE id = 1",
    );
    assert_eq!(tokens(&mut client), "11=4 12=5 13=6");
    let moved = "SELECT count(*) FROM high";
    assert_eq!(client.query_one(moved, &[]).unwrap().get::<_, i64>(0), 3);
}

#[test]
fn quoted_columns_and_every_kind_of_text_will_do() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    run(&mut client, "CREATE EXTENSION citext");
    for kind in [
        "text",
        "varchar(100)",
        "title",
        "short",
        "char(20)",
        "citext",
    ] {
        run(
            &mut client,
            &format!(
                r#"DROP DOMAIN IF EXISTS title CASCADE;
                   CREATE DOMAIN title AS text CHECK (VALUE <> '');
                   DROP DOMAIN IF EXISTS short CASCADE;
                   CREATE DOMAIN short AS varchar(40);
                   DROP TABLE IF EXISTS docs;
                   CREATE TABLE docs (id int, "The Body" {kind}, "Embedding""s" real[]);
                   CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON docs FOR EACH ROW
                       EXECUTE FUNCTION infinity_embed_text_trigger('The Body', 'Embedding"s');
                   INSERT INTO docs VALUES (1, 'a b')"#
            ),
        );
        let row = client
            .query_one(r#"SELECT array_length("Embedding""s", 1) FROM docs"#, &[])
            .unwrap();
        assert_eq!(row.get::<_, Option<i32>>(0), Some(4), "{kind}");
    }
}

#[test]
fn its_third_argument_is_the_model() {
    let mut options = Options::new(Model::lite("one"));
    options.models.push(Model::lite("two"));
    let stage = Stage::with_options(options);
    let mut client = session(&stage);
    run(
        &mut client,
        "SELECT infinity_embed_text('warm', 'two');
         DROP TRIGGER embed ON docs;
         CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON docs
             FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding', 'two')",
    );
    stage.server.clear_requests();
    run(&mut client, "INSERT INTO docs VALUES (1, 'a')");
    assert_eq!(stage.requests()[0].model.as_deref(), Some("two"));
}

#[test]
fn pictures_have_a_trigger_of_their_own() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    run(
        &mut client,
        "CREATE TABLE pages (id int PRIMARY KEY, scan bytea, note text, embedding real[]);
         CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON pages
             FOR EACH ROW EXECUTE FUNCTION infinity_embed_image_trigger('scan', 'embedding')",
    );
    let picture = |red: u8| {
        let mut bytes = Vec::new();
        RgbImage::from_pixel(80, 60, Rgb([red, 10, 10]))
            .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
            .unwrap();
        bytes
    };
    let insert = "INSERT INTO pages (id, scan) VALUES ($1, $2)";
    client.execute(insert, &[&1, &picture(200)]).unwrap();
    client.execute(insert, &[&2, &None::<Vec<u8>>]).unwrap();
    assert_eq!(stage.requests().len(), 1);
    assert_eq!(stage.requests()[0].modality.as_deref(), Some("image"));
    let stored = matrix(&mut client, "embedding FROM pages WHERE id = 1");
    let called = matrix(
        &mut client,
        "infinity_embed_image(scan) FROM pages WHERE id = 1",
    );
    assert!(stored.distance(&called) < 1e-5);
    stage.server.clear_requests();
    run(&mut client, "UPDATE pages SET note = 'seen'");
    assert!(stage.requests().is_empty());
    let update = "UPDATE pages SET scan = $2 WHERE id = $1";
    client.execute(update, &[&1, &picture(20)]).unwrap();
    assert_eq!(stage.requests().len(), 1);
    let other = matrix(&mut client, "embedding FROM pages WHERE id = 1");
    assert!(other.distance(&stored) > 0.01);
    // A broken one keeps its row out.
    let error = database_error(client.execute(insert, &[&3, &vec![1u8, 2, 3]]));
    assert_eq!(error.code().code(), "22023", "{error:?}");
    let count = "SELECT count(*), count(embedding) FROM pages";
    let row = client.query_one(count, &[]).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 1));
}

#[test]
fn a_failure_undoes_its_statement_only() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = session(&stage);
    let marker = "poison".to_owned();
    stage.server.inject(
        Fault::Poison {
            marker,
            status: 422,
        },
        Times::Always,
    );
    run(
        &mut client,
        "BEGIN; INSERT INTO docs VALUES (1, 'a'); SAVEPOINT before",
    );
    let error = database_error(
        client.batch_execute("INSERT INTO docs VALUES (2, 'b'), (3, 'poison'), (4, 'c')"),
    );
    assert_eq!(error.code().code(), "22023", "{error:?}");
    run(
        &mut client,
        "ROLLBACK TO before; INSERT INTO docs VALUES (5, 'e'); COMMIT",
    );
    assert_eq!(tokens(&mut client), "1=3 5=3");
    // An update that fails leaves the old pair.
    let error =
        database_error(client.batch_execute("UPDATE docs SET body = 'poison' WHERE id = 1"));
    assert_eq!(error.code().code(), "22023", "{error:?}");
    let row = client
        .query_one("SELECT body FROM docs WHERE id = 1", &[])
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "a");
}
