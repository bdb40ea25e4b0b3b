//! The extension as an object of the database: created, dropped, its settings.

use cluster_tests::{Cluster, database_error};

#[test]
fn the_extension_can_be_created_dropped_and_created_again() {
    let database = Cluster::shared().empty_database();
    let mut client = database.client();
    let objects = "SELECT count(*) FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'infinity_embed'";
    let mut counts = Vec::new();
    for _ in 0..2 {
        client
            .batch_execute("CREATE EXTENSION infinity_embed")
            .unwrap();
        counts.push(client.query_one(objects, &[]).unwrap().get::<_, i64>(0));
        client
            .batch_execute("DROP EXTENSION infinity_embed")
            .unwrap();
    }
    assert!(counts[0] > 0, "the extension has no objects");
    assert_eq!(counts[0], counts[1]);
    let left = client
        .query_one(
            "SELECT count(*) FROM pg_proc WHERE proname LIKE 'infinity_embed%' OR proname = 'maxsim'",
            &[],
        )
        .unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
    let schema = client
        .query_one("SELECT to_regnamespace('infinity_embed') IS NULL", &[])
        .unwrap();
    assert!(schema.get::<_, bool>(0), "the schema stayed behind");
}

#[test]
fn user_functions_go_to_the_schema_of_the_installer() {
    let database = Cluster::shared().empty_database();
    database.run("CREATE SCHEMA elsewhere; CREATE EXTENSION infinity_embed SCHEMA elsewhere");
    let row = database
        .client()
        .query_one(
            "SELECT array_agg(DISTINCT pronamespace::regnamespace::text) FROM pg_proc
             WHERE proname LIKE 'infinity_embed_%' OR proname = 'maxsim'",
            &[],
        )
        .unwrap();
    assert_eq!(row.get::<_, Vec<String>>(0), ["elsewhere"]);
}

#[test]
fn an_ordinary_role_cannot_create_the_extension() {
    let database = Cluster::shared().empty_database();
    let role = database.role("owner");
    database.run(&format!(
        "GRANT CREATE ON DATABASE {} TO {role}",
        database.name()
    ));
    let error = database_error(
        database
            .client_as(&role)
            .batch_execute("CREATE EXTENSION infinity_embed"),
    );
    assert_eq!(error.code().code(), "42501", "{error}");
}

#[test]
fn the_settings_exist_with_the_defaults_of_the_specification() {
    let database = Cluster::shared().database();
    let mut client = database.client();
    client.batch_execute("LOAD 'infinity_embed'").unwrap();
    for (name, default) in [
        ("url", "http://localhost:7997"),
        ("model_name", "michaelfeil/colqwen2-v0.1"),
        ("encoding", "base64"),
        ("hidden_dim", "128"),
        ("timeout", "1min"),
        ("max_retries", "3"),
        ("embed_batch_size", "10"),
        ("api_key", ""),
        ("api_key_file", ""),
        ("max_concurrency", "4"),
        ("normalize", "off"),
        ("cache_size", "4MB"),
    ] {
        let row = client
            .query_one(&format!("SHOW infinity_embed.{name}"), &[])
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(row.get::<_, String>(0), default, "{name}");
    }
}

#[test]
fn a_setting_that_does_not_exist_is_refused() {
    let database = Cluster::shared().database();
    let mut client = database.client();
    client.batch_execute("LOAD 'infinity_embed'").unwrap();
    let error = database_error(client.batch_execute("SET infinity_embed.tiemout = 5"));
    assert_eq!(error.code().code(), "42602", "{error}");
}
