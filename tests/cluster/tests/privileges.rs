//! Who may call out, who may say where to, and who gets to see the key.

use cluster_tests::{Cluster, Database, Stage, database_error};
use mock_infinity::{Model, Options, Server};
use postgres::{Client, NoTls};

const KEY: &str = "sk-for-nobodys-eyes";

fn run(client: &mut Client, statements: &str) {
    client
        .batch_execute(statements)
        .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

fn code(client: &mut Client, statement: &str) -> String {
    database_error(client.batch_execute(statement))
        .code()
        .code()
        .to_owned()
}

/// The name of a role that may make tables.
fn role(database: &Database<'_>, name: &str) -> String {
    let role = database.role(name);
    database.run(&format!("GRANT CREATE ON SCHEMA public TO {role}"));
    role
}

const CALLS: [&str; 6] = [
    "SELECT infinity_embed_text('a')",
    "SELECT infinity_embed_texts('{a}')",
    "SELECT infinity_embed_image('a')",
    "SELECT infinity_embed_images('{a}')",
    "SELECT infinity_embed_health()",
    "SELECT infinity_embed_models()",
];
const TRIGGER: &str = "CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON docs
    FOR EACH ROW EXECUTE FUNCTION infinity_embed_text_trigger('body', 'embedding')";

#[test]
fn only_who_is_allowed_may_call_out_or_make_triggers() {
    let stage = Stage::new(Model::lite("lite"));
    let role = role(&stage.database, "writer");
    let mut client = stage.database.client_as(&role);
    run(
        &mut client,
        "CREATE TABLE docs (body text, embedding real[])",
    );
    for call in CALLS.iter().chain([&TRIGGER]) {
        assert_eq!(code(&mut client, call), "42501", "{call}");
    }
    for call in ["allow", "disallow"] {
        let call = format!("SELECT infinity_embed.{call}('{role}')");
        assert_eq!(code(&mut client, &call), "42501", "{call}");
    }
    assert!(stage.requests().is_empty());
    // Ranking calls nobody.
    run(
        &mut client,
        "SELECT maxsim('{{1}}'::real[], '{{2}}'::real[]), '{{1}}'::real[] @# '{{2}}'::real[]",
    );
    stage
        .database
        .run(&format!("SELECT infinity_embed.allow('{role}')"));
    for call in CALLS.iter().filter(|call| !call.contains("image")) {
        run(&mut client, call);
    }
    // Allowed, and refused for the bytes only.
    assert_eq!(
        code(&mut client, "SELECT infinity_embed_image('a')"),
        "22023"
    );
    run(&mut client, TRIGGER);
    run(&mut client, "INSERT INTO docs VALUES ('a')");
    stage
        .database
        .run(&format!("SELECT infinity_embed.disallow('{role}')"));
    assert_eq!(
        code(&mut client, "SELECT infinity_embed_text('b')"),
        "42501"
    );
    // So that the role can be dropped.
    run(&mut client, "DROP TABLE docs");
    stage
        .database
        .run(&format!("REVOKE CREATE ON SCHEMA public FROM {role}"));
}

#[test]
fn who_may_insert_need_not_be_allowed_to_call() {
    let stage = Stage::new(Model::lite("lite"));
    let role = stage.database.role("inserter");
    stage.database.run(&format!(
        "CREATE TABLE docs (body text, embedding real[]); {TRIGGER};
         GRANT INSERT, SELECT, UPDATE ON docs TO {role}"
    ));
    let mut client = stage.database.client_as(&role);
    run(
        &mut client,
        "INSERT INTO docs VALUES ('a b'); UPDATE docs SET body = 'a b c'",
    );
    let row = client
        .query_one("SELECT array_length(embedding, 1) FROM docs", &[])
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 5);
    assert_eq!(
        code(&mut client, "SELECT infinity_embed_text('a')"),
        "42501"
    );
}

#[test]
fn what_decides_where_bytes_go_is_for_superusers() {
    let stage = Stage::new(Model::lite("lite"));
    let role = stage.database.role("ordinary");
    stage
        .database
        .run(&format!("SELECT infinity_embed.allow('{role}')"));
    let mut client = stage.database.client_as(&role);
    run(&mut client, CALLS[0]);
    for (setting, value) in [
        ("url", "http://elsewhere.invalid"),
        ("api_key", "k"),
        ("api_key_file", "/etc/passwd"),
        ("max_image_pixels", "5"),
        ("max_response_size", "5"),
    ] {
        for statement in [
            format!("SET infinity_embed.{setting} = '{value}'"),
            format!("SELECT set_config('infinity_embed.{setting}', '{value}', true)"),
            format!("ALTER ROLE {role} SET infinity_embed.{setting} = '{value}'"),
        ] {
            assert_eq!(code(&mut client, &statement), "42501", "{statement}");
        }
    }
    for setting in [
        "model_name",
        "hidden_dim",
        "timeout",
        "max_retries",
        "cache_size",
        "normalize",
        "encoding",
    ] {
        run(
            &mut client,
            &format!("SET infinity_embed.{setting} TO DEFAULT"),
        );
    }
}

#[test]
fn a_value_given_before_the_library_is_loaded_is_not_taken_over() {
    let stage = Stage::new(Model::lite("lite"));
    let thief = Server::start(Options::new(Model::lite("lite")));
    let role = stage.database.role("early");
    stage
        .database
        .run(&format!("SELECT infinity_embed.allow('{role}')"));
    let url = thief.url();
    // In the session, before anything has loaded the library.
    let mut client = stage.database.client_as(&role);
    run(
        &mut client,
        &format!(
            "SET infinity_embed.url = '{url}'; SET infinity_embed.api_key_file = '/etc/passwd'"
        ),
    );
    run(&mut client, CALLS[0]);
    assert!(thief.requests().is_empty(), "the thief was asked");
    assert!(!stage.requests().is_empty());
    let show = client.query_one("SHOW infinity_embed.url", &[]).unwrap();
    assert_eq!(show.get::<_, String>(0), stage.server.url());
    // In the options of the connection, which keep the database's value out: nobody is asked, not even the default.
    let mut config = Cluster::shared().config(stage.database.name(), &role);
    config.options(&format!("-c infinity_embed.url={url}"));
    let mut client = config.connect(NoTls).unwrap();
    for _ in 0..2 {
        assert_eq!(code(&mut client, CALLS[0]), "55000");
        run(&mut client, "DISCARD ALL");
    }
    assert!(thief.requests().is_empty(), "the thief was asked");
    // For the role and the database, which only superusers may while the name is unknown.
    let mut client = stage.database.client_as(&role);
    let statement = format!("ALTER ROLE {role} SET infinity_embed.url = '{url}'");
    assert_eq!(code(&mut client, &statement), "42501");
    // And for a superuser all of this works.
    let mut config = Cluster::shared().config(stage.database.name(), "postgres");
    config.options(&format!("-c infinity_embed.url={url}"));
    run(&mut config.connect(NoTls).unwrap(), CALLS[0]);
    assert!(!thief.requests().is_empty());
    thief.clear_requests();
    let mut client = stage.database.client();
    run(&mut client, &format!("SET infinity_embed.url = '{url}'"));
    run(&mut client, CALLS[0]);
    assert!(!thief.requests().is_empty());
}

#[test]
fn the_key_is_shown_to_nobody() {
    let stage = Stage::with_options(Options {
        api_key: Some(KEY.to_owned()),
        ..Options::new(Model::lite("lite"))
    });
    let role = stage.database.role("curious");
    stage.database.run(&format!(
        "SELECT infinity_embed.allow('{role}');
         GRANT pg_read_all_settings TO {role}"
    ));
    for mut client in [stage.database.client(), stage.database.client_as(&role)] {
        run(&mut client, CALLS[0]);
        for query in [
            "SELECT current_setting('infinity_embed.api_key')",
            "SELECT string_agg(s::text, ' ') FROM pg_settings s",
            "SELECT string_agg(s::text, ' ') FROM pg_show_all_settings() s",
            "SELECT infinity_embed_health()::text",
        ] {
            let row = client.query_one(query, &[]).unwrap();
            let shown: Option<String> = row.get(0);
            assert!(!shown.unwrap_or_default().contains(KEY), "{query}");
        }
        for command in ["SHOW infinity_embed.api_key", "SHOW ALL"] {
            for message in client.simple_query(command).unwrap() {
                let postgres::SimpleQueryMessage::Row(row) = message else {
                    continue;
                };
                for column in 0..row.len() {
                    assert!(
                        !row.get(column).unwrap_or_default().contains(KEY),
                        "{command}"
                    );
                }
            }
        }
    }
    // An ordinary role does not even see the stars.
    let other = stage.database.role("other");
    let mut client = stage.database.client_as(&other);
    run(
        &mut client,
        "SELECT maxsim('{{1}}'::real[], '{{2}}'::real[])",
    );
    assert_eq!(code(&mut client, "SHOW infinity_embed.api_key"), "42501");
    assert_eq!(
        code(&mut client, "SHOW infinity_embed.api_key_file"),
        "42501"
    );
}

#[test]
fn the_key_is_not_written_to_the_log() {
    let stage = Stage::with_options(Options {
        api_key: Some("sk-another".to_owned()),
        ..Options::new(Model::lite("lite"))
    });
    let name = format!("secret_of_{}", stage.database.name());
    let file = Cluster::shared().data().join(&name);
    std::fs::write(&file, KEY).unwrap();
    stage.database.set("infinity_embed.api_key", "");
    stage.database.set("infinity_embed.api_key_file", &name);
    let mut client = stage.database.client();
    run(
        &mut client,
        "SET log_error_verbosity = verbose; SET log_min_messages = debug5; SET client_min_messages = debug5",
    );
    assert_eq!(code(&mut client, CALLS[0]), "28000");
    // A file that holds something else is not quoted either.
    std::fs::write(&file, format!("{KEY}\n").repeat(1_000)).unwrap();
    assert_eq!(code(&mut client, CALLS[0]), "F0000");
    std::fs::remove_file(&file).unwrap();
    let log = Cluster::shared().log();
    assert!(
        log.contains("refused the API key"),
        "the log is not this test's"
    );
    assert!(!log.contains(KEY));
}
