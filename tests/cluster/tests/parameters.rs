//! The table of parameters: one test per row, which proves by what the server saw, or by the result, that the setting
//! does what it says.

use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Stage, database_error, matrix};
use mock_infinity::{Fault, Model, Options, Server, Times};
use postgres::Client;

/// How far two answers for one text may lie apart.
const JITTER: f32 = 1e-5;

fn lite() -> Model {
    Model::lite("lite")
}

fn run(client: &mut Client, statements: &str) {
    client
        .batch_execute(statements)
        .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

#[test]
fn every_parameter_has_its_documented_default_unit_and_context() {
    let database = Cluster::shared().database();
    let mut client = database.client();
    run(&mut client, "LOAD 'infinity_embed'");
    let rows = client
        .query(
            "SELECT substr(name, 16), boot_val, unit, context, vartype FROM pg_settings
             WHERE name LIKE 'infinity\\_embed.%' ORDER BY name",
            &[],
        )
        .unwrap();
    let found: Vec<String> = rows
        .iter()
        .map(|row| {
            let field = |index| row.get::<_, Option<String>>(index).unwrap_or("-".into());
            [field(0), field(1), field(2), field(3), field(4)].join(" ")
        })
        .collect();
    // api_key is not listed: GUC_NO_SHOW_ALL.
    assert_eq!(
        found,
        [
            "api_key_file  - superuser string",
            "cache_size 4096 kB user integer",
            "embed_batch_size 10 - user integer",
            "encoding base64 - user enum",
            "hidden_dim 128 - user integer",
            "max_attempts 5 - superuser integer",
            "max_concurrency 4 - user integer",
            "max_image_pixels 40000000 - superuser integer",
            "max_response_size 262144 kB superuser integer",
            "max_retries 3 - user integer",
            "max_workers 1 - superuser integer",
            "model_name michaelfeil/colqwen2-v0.1 - user string",
            "normalize off - user bool",
            "search_effort 3 - user real",
            "timeout 60 s user real",
            "url http://localhost:7997 - superuser string",
            "worker on - superuser bool",
        ]
    );
}

#[test]
fn url_names_the_server_that_is_asked_with_its_path_prefix() {
    let other = Server::start(Options {
        url_prefix: "/v1".to_owned(),
        ..Options::new(lite())
    });
    let stage = Stage::new(lite());
    let mut client = stage.client();
    run(
        &mut client,
        &format!(
            "SET infinity_embed.url = '{}'; SELECT infinity_embed_text('a')",
            other.url()
        ),
    );
    assert!(stage.requests().is_empty());
    let paths: Vec<String> = other.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(paths, ["/v1/embeddings", "/v1/embeddings"]);
    // A slash at its end changes nothing.
    run(
        &mut client,
        &format!(
            "SET infinity_embed.url = '{}/'; SELECT infinity_embed_text('b')",
            other.url()
        ),
    );
    assert_eq!(other.requests().last().unwrap().status, Some(200));
}

#[test]
fn infinity_api_url_of_the_servers_environment_is_the_default_of_url() {
    let server = Server::start(Options::new(lite()));
    let url = server.url();
    let cluster = Cluster::start_new_with_environment(&[], &[("INFINITY_API_URL", &url)]);
    let database = cluster.database();
    let mut client = database.client();
    run(
        &mut client,
        "SET infinity_embed.model_name = 'lite'; SELECT infinity_embed_text('a')",
    );
    assert_eq!(server.requests().last().unwrap().inputs, 1);
    let show = "SHOW infinity_embed.url";
    assert_eq!(
        client.query_one(show, &[]).unwrap().get::<_, String>(0),
        url
    );
    // What is set goes before the environment, and RESET goes back to it.
    run(&mut client, "SET infinity_embed.url = 'http://127.0.0.1:1'");
    let call = "SELECT infinity_embed_text('b')";
    run(&mut client, "SET infinity_embed.max_retries = 0");
    assert_eq!(
        database_error(client.batch_execute(call)).code().code(),
        "08001"
    );
    run(&mut client, "RESET infinity_embed.url");
    run(&mut client, call);
}

#[test]
fn model_name_is_sent_and_the_argument_goes_before_it() {
    let mut options = Options::new(Model::lite("one"));
    options.models.push(Model::lite("two"));
    let stage = Stage::with_options(options);
    let mut client = stage.client();
    run(
        &mut client,
        "SELECT infinity_embed_text('a');
         SELECT infinity_embed_text('a', model => 'two');
         SET infinity_embed.model_name = 'two';
         SELECT infinity_embed_text('b')",
    );
    let requests = stage.requests();
    let asked: Vec<&str> = requests.iter().filter_map(|r| r.model.as_deref()).collect();
    // The second model's dimension is learnt on the way.
    assert_eq!(asked, ["one", "two", "two", "two"]);
}

#[test]
fn encoding_is_what_the_server_is_asked_for_and_changes_no_value() {
    let stage = Stage::new(lite());
    let mut client = stage.client();
    let mut embed = |encoding: &str| {
        // The cache is off, or the second call would make no request.
        run(
            &mut client,
            &format!("SET infinity_embed.cache_size = 0; SET infinity_embed.encoding = {encoding}"),
        );
        matrix(&mut client, "infinity_embed_text('the quick brown fox')")
    };
    let base64 = embed("base64");
    let float = embed("float");
    let formats: Vec<Option<String>> = stage
        .requests()
        .into_iter()
        .map(|request| request.encoding_format)
        .collect();
    assert_eq!(formats, [Some("base64".into()), Some("float".into())]);
    assert!(base64.distance(&float) < JITTER);
    let error = database_error(client.batch_execute("SET infinity_embed.encoding = 'int8'"));
    assert_eq!(error.code().code(), "22023", "{error}");
}

#[test]
fn hidden_dim_is_held_against_the_server_and_0_learns_it() {
    let stage = Stage::new(Model::colbert("lite"));
    let mut client = stage.client();
    let call = "SELECT infinity_embed_text('a b')";
    run(&mut client, "SET infinity_embed.hidden_dim = 128");
    for encoding in ["base64", "float"] {
        run(
            &mut client,
            &format!("SET infinity_embed.encoding = {encoding}"),
        );
        let error = database_error(client.batch_execute(call));
        assert_eq!(error.code().code(), "22000", "{error}");
        assert_eq!(
            error.message(),
            "model \"lite\" has 384 dimensions, but infinity_embed.hidden_dim is 128"
        );
    }
    for setting in ["0", "384"] {
        run(
            &mut client,
            &format!("SET infinity_embed.hidden_dim = {setting}"),
        );
        let embedding = matrix(&mut client, "infinity_embed_text('a b')");
        assert_eq!((embedding.tokens, embedding.dim), (4, 384));
    }
}

#[test]
fn timeout_bounds_a_request_with_its_retries() {
    let stage = Stage::new(lite());
    let mut client = stage.client();
    run(&mut client, "SET infinity_embed.timeout = '700ms'");
    stage
        .server
        .inject(Fault::Hang { ms: 60_000 }, Times::Count(1));
    let start = Instant::now();
    let error = database_error(client.batch_execute("SELECT infinity_embed_text('a')"));
    assert_eq!(error.code().code(), "08006", "{error}");
    assert!(error.message().ends_with("within 700 ms"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(700));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    // With a hundred retries too, the same time is all there is.
    stage.server.inject(
        Fault::Unavailable { retry_after: None },
        Times::Count(1_000),
    );
    run(&mut client, "SET infinity_embed.max_retries = 100");
    let start = Instant::now();
    let error = database_error(client.batch_execute("SELECT infinity_embed_text('a')"));
    assert_eq!(error.code().code(), "53000", "{error}");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    stage.server.clear_faults();
    run(&mut client, "SELECT infinity_embed_text('a')");
}

#[test]
fn max_retries_counts_the_attempts_after_the_first() {
    let stage = Stage::new(lite());
    let mut client = stage.client();
    stage
        .server
        .inject(Fault::Unavailable { retry_after: None }, Times::Always);
    for retries in [0, 2] {
        stage.server.clear_requests();
        run(
            &mut client,
            &format!("SET infinity_embed.max_retries = {retries}"),
        );
        let error = database_error(client.batch_execute("SELECT infinity_embed_text('a')"));
        assert_eq!(error.code().code(), "53000", "{error}");
        assert_eq!(stage.requests().len(), retries + 1);
        if retries == 2 {
            assert!(error.detail().unwrap().contains("(after 3 attempts)"));
        }
    }
    // And they serve their purpose.
    stage.server.clear_faults();
    stage
        .server
        .inject(Fault::Unavailable { retry_after: None }, Times::Count(2));
    run(&mut client, "SELECT infinity_embed_text('a')");
}

#[test]
fn embed_batch_size_is_the_number_of_inputs_of_a_request() {
    let stage = Stage::new(lite());
    let mut client = stage.client();
    run(&mut client, "SET infinity_embed.max_concurrency = 1");
    let call = "SELECT infinity_embed_texts(array_agg('text ' || i)) FROM generate_series(1, 23) i";
    run(&mut client, call);
    assert_eq!(stage.batches(), [10, 10, 3]);
    stage.server.clear_requests();
    run(&mut client, "SET infinity_embed.embed_batch_size = 7");
    run(&mut client, call);
    assert_eq!(stage.batches(), [7, 7, 7, 2]);
}

#[test]
fn max_concurrency_is_the_number_of_requests_in_flight() {
    let stage = Stage::with_options(Options {
        latency: Duration::from_millis(150),
        ..Options::new(lite())
    });
    let mut client = stage.client();
    run(&mut client, "SET infinity_embed.embed_batch_size = 1");
    for concurrency in [1, 3, 4] {
        stage.server.clear_requests();
        run(
            &mut client,
            &format!("SET infinity_embed.max_concurrency = {concurrency}"),
        );
        run(
            &mut client,
            "SELECT infinity_embed_texts(array_agg('text ' || i)) FROM generate_series(1, 8) i",
        );
        assert_eq!(stage.server.max_in_flight(), concurrency);
        assert_eq!(stage.requests().len(), 8);
    }
}

#[test]
fn normalize_scales_every_row_to_length_one() {
    let stage = Stage::new(Model::colbert("lite"));
    let mut client = stage.client();
    let lengths = |client: &mut Client| -> Vec<f32> {
        let embedding = matrix(client, "infinity_embed_text('late interaction')");
        let length = |row: &[f32]| row.iter().map(|value| value * value).sum::<f32>().sqrt();
        embedding.rows().map(length).collect()
    };
    let raw = lengths(&mut client);
    assert!(
        raw.iter().all(|length| (5.9..13.1).contains(length)),
        "{raw:?}"
    );
    run(&mut client, "SET infinity_embed.normalize = on");
    let scaled = lengths(&mut client);
    assert_eq!(scaled.len(), raw.len());
    assert!(
        scaled.iter().all(|length| (length - 1.0).abs() < 1e-5),
        "{scaled:?}"
    );
}

#[test]
fn cache_size_0_turns_the_cache_off() {
    let stage = Stage::new(lite());
    let mut client = stage.client();
    let call = "SELECT infinity_embed_text('again')";
    run(&mut client, call);
    run(&mut client, call);
    assert_eq!(stage.requests().len(), 1);
    run(&mut client, "SET infinity_embed.cache_size = 0");
    run(&mut client, call);
    run(&mut client, call);
    assert_eq!(stage.requests().len(), 3);
}

#[test]
fn max_image_pixels_is_the_largest_picture_that_is_decoded() {
    let stage = Stage::new(lite());
    let mut client = stage.client();
    let mut picture = Vec::new();
    image::RgbImage::new(100, 50)
        .write_to(
            &mut std::io::Cursor::new(&mut picture),
            image::ImageFormat::Png,
        )
        .unwrap();
    run(&mut client, "SET infinity_embed.max_image_pixels = 5000");
    let call = "SELECT infinity_embed_image($1)";
    client.query_one(call, &[&picture]).unwrap();
    stage.server.clear_requests();
    run(&mut client, "SET infinity_embed.max_image_pixels = 4999");
    let error = database_error(client.query_one(call, &[&picture]));
    assert_eq!(error.code().code(), "54000", "{error}");
    let detail = error.detail().unwrap();
    assert!(
        detail.contains("100") && detail.contains("50") && detail.contains("4999"),
        "{detail}"
    );
    assert!(stage.requests().is_empty(), "the picture was sent");
}

#[test]
fn max_response_size_is_the_largest_answer_that_is_read() {
    let stage = Stage::new(lite());
    let mut client = stage.client();
    // 100 words are 102 rows of 512 bytes, which base64 makes 70 kB of.
    let call = "SELECT infinity_embed_text(repeat('word ', 100) || random())";
    run(&mut client, "SET infinity_embed.max_response_size = '80kB'");
    run(&mut client, call);
    run(&mut client, "SET infinity_embed.max_response_size = '60kB'");
    let error = database_error(client.batch_execute(call));
    assert_eq!(error.code().code(), "54000", "{error}");
    assert!(error.detail().unwrap().contains("61440 are allowed"));
}

#[test]
fn api_key_is_sent_as_a_bearer_token() {
    let stage = Stage::with_options(Options {
        api_key: Some("sk-right".to_owned()),
        ..Options::new(lite())
    });
    let mut client = stage.client();
    run(&mut client, "SELECT infinity_embed_text('a')");
    assert!(stage.requests().iter().all(|request| request.authorized));
    for (key, sent) in [("sk-wrong", true), ("", false)] {
        stage.server.clear_requests();
        run(
            &mut client,
            &format!("SET infinity_embed.api_key = '{key}'"),
        );
        let error = database_error(client.batch_execute("SELECT infinity_embed_text('b')"));
        assert_eq!(error.code().code(), "28000", "{error}");
        let requests = stage.requests();
        assert_eq!(
            (requests.len(), requests[0].authorized),
            (1, sent),
            "{error}"
        );
    }
}

#[test]
fn api_key_file_is_read_at_every_call_relative_to_the_data_directory() {
    let stage = Stage::with_options(Options {
        api_key: Some("sk-in-a-file".to_owned()),
        ..Options::new(lite())
    });
    let name = format!("key_of_{}", stage.database.name());
    let file = Cluster::shared().data().join(&name);
    std::fs::write(&file, "  sk-in-a-file\n").unwrap();
    stage.database.set("infinity_embed.api_key", "");
    stage.database.set("infinity_embed.api_key_file", &name);
    let mut client = stage.client();
    std::fs::write(&file, "sk-old").unwrap();
    let call = "SELECT infinity_embed_text('a')";
    let error = database_error(client.batch_execute(call));
    assert_eq!(error.code().code(), "28000", "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = database_error(client.batch_execute(call));
    assert_eq!(error.code().code(), "58P01", "{error}");
    assert!(error.message().contains(&name), "{error}");
    // The setting goes before the file.
    run(
        &mut client,
        "SET infinity_embed.api_key = 'sk-in-a-file'; SELECT infinity_embed_text('a')",
    );
}
