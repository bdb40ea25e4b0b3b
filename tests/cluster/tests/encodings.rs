//! Databases whose encoding is not UTF-8: the same text gives the same embedding, and what the server says fits them.

use cluster_tests::{Cluster, Matrix, Stage, database_error, matrix};
use mock_infinity::{Fault, Model, Times};
use postgres::{Client, NoTls};

/// A database of another encoding beside the stage's own, dropped on drop.
struct Encoded {
    name: String,
}

impl Encoded {
    fn new(stage: &Stage, encoding: &str) -> Self {
        let name = format!("{}_{}", stage.database.name(), encoding.to_lowercase());
        let mut client = Cluster::shared().connect("postgres");
        client
            .batch_execute(&format!(
                "CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
            ))
            .unwrap();
        for (setting, value) in [("url", stage.server.url()), ("model_name", "lite".into())] {
            client
                .batch_execute(&format!(
                    "ALTER DATABASE {name} SET infinity_embed.{setting} = '{value}'"
                ))
                .unwrap();
        }
        let encoded = Self { name };
        encoded
            .client()
            .batch_execute("CREATE EXTENSION infinity_embed")
            .unwrap();
        encoded
    }

    /// The client speaks UTF-8, whatever the database holds.
    fn client(&self) -> Client {
        Cluster::shared()
            .config(&self.name, "postgres")
            .connect(NoTls)
            .unwrap()
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        let mut client = Cluster::shared().connect("postgres");
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        if let Err(error) = client.batch_execute(&drop) {
            eprintln!("{drop}: {error}");
        }
    }
}

const TEXT: &str = "infinity_embed_text('Größe der Äpfel über Öl')";

fn embedded_by_trigger(client: &mut Client) -> Matrix {
    client
        .batch_execute(
            "CREATE TABLE docs (body text, embedding real[]);
             CREATE TRIGGER embed BEFORE INSERT ON docs
                 FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding');
             INSERT INTO docs VALUES ('Größe der Äpfel über Öl')",
        )
        .unwrap();
    matrix(client, "embedding FROM docs")
}

#[test]
fn a_latin1_database_gives_the_embeddings_of_a_utf8_one() {
    let stage = Stage::new(Model::lite("lite"));
    let wanted = matrix(&mut stage.client(), TEXT);
    assert_eq!(wanted.tokens, 7);
    let latin = Encoded::new(&stage, "LATIN1");
    let mut client = latin.client();
    assert!(matrix(&mut client, TEXT).distance(&wanted) < 1e-5);
    let many = "(infinity_embed_texts(ARRAY['Größe der Äpfel über Öl']))";
    assert!(matrix(&mut client, many).distance(&wanted) < 1e-5);
    assert!(embedded_by_trigger(&mut client).distance(&wanted) < 1e-5);
}

#[test]
fn words_of_the_server_that_latin1_lacks_do_not_break_an_error() {
    let stage = Stage::new(Model::lite("lite"));
    let latin = Encoded::new(&stage, "LATIN1");
    let mut client = latin.client();
    client.batch_execute(&format!("SELECT {TEXT}")).unwrap();
    let foreign = Fault::WrongModel {
        name: "模型 größer".into(),
    };
    stage.server.inject(foreign, Times::Once);
    let error = database_error(client.batch_execute("SELECT infinity_embed_text('a')"));
    assert_eq!(error.code().code(), "42704", "{error}");
    assert!(error.detail().unwrap().contains('?'), "{error:?}");
    stage.server.clear_faults();
    client
        .batch_execute("SELECT infinity_embed_text('a')")
        .unwrap();
}

#[test]
fn bytes_that_are_no_utf8_in_a_sql_ascii_database_are_refused_by_name() {
    let stage = Stage::new(Model::lite("lite"));
    let wanted = matrix(&mut stage.client(), TEXT);
    let ascii = Encoded::new(&stage, "SQL_ASCII");
    let mut client = ascii.client();
    assert!(matrix(&mut client, TEXT).distance(&wanted) < 1e-5);
    let error = database_error(client.batch_execute("SELECT infinity_embed_text(E'\\xe4pfel')"));
    assert_eq!(error.code().code(), "22021", "{error}");
    client
        .batch_execute("SELECT infinity_embed_text('a')")
        .unwrap();
}
