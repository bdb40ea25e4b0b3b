//! The queue: columns kept embedded behind their writers' backs.

mod allowed;
mod altered;
mod echo;
mod endless;
mod fairness;
mod launcher;
mod leftovers;
mod life;
mod locks;
mod nowhere;
mod outage;
mod process;
mod rights;
mod several;
mod silence;
mod sources;
mod tables;
mod views;
mod wait;
mod worker;

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use cluster_tests::{Cluster, Database};
use mock_infinity::{Model, Options, Server};
use postgres::{Client, NoTls};

const MODEL: &str = "michaelfeil/colqwen2-v0.1";

fn server(latency: Duration) -> Server {
    Server::start(Options {
        latency,
        ..Options::new(Model::lite(MODEL))
    })
}

/// A database that uses the server, fails fast and has no worker but where a test wants one.
fn database(server: &Server) -> Database<'static> {
    database_of(Cluster::shared(), server)
}

fn database_of<'a>(cluster: &'a Cluster, server: &Server) -> Database<'a> {
    let database = cluster.database();
    database.set("infinity_embed.url", &server.url());
    database.set("infinity_embed.max_retries", "0");
    database.set("infinity_embed.worker", "off");
    database
}

/// The same with a table `passages` of so many rows, kept embedded.
fn passages(server: &Server, rows: u32) -> Database<'static> {
    passages_of(Cluster::shared(), server, rows)
}

fn passages_of<'a>(cluster: &'a Cluster, server: &Server, rows: u32) -> Database<'a> {
    let database = database_of(cluster, server);
    database.run(&format!(
        "CREATE TABLE passages (id int PRIMARY KEY, body text, note text, embedding real[]);
         INSERT INTO passages (id, body) SELECT i, 'passage number ' || i FROM generate_series(1, {rows}) AS i"
    ));
    database.run(
        "SELECT infinity_embed.auto_embed('passages', source => 'body', target => 'embedding')",
    );
    database
}

/// A session, and what the server tells it beside its answers.
fn notices(database: &Database) -> (Client, Receiver<String>) {
    let (tell, told) = channel();
    let client = database
        .cluster()
        .config(database.name(), "postgres")
        .notice_callback(move |notice| {
            // A test that has read enough has gone.
            let _ = tell.send(notice.message().to_owned());
        })
        .connect(NoTls)
        .expect("a superuser may connect");
    (client, told)
}

fn process(client: &mut Client) {
    client
        .batch_execute("CALL infinity_embed.process_queue()")
        .expect("the queue can be processed");
}

fn count(client: &mut Client, query: &str) -> i64 {
    client
        .query_one(&format!("SELECT count(*) FROM {query}"), &[])
        .unwrap_or_else(|error| panic!("{query}: {error:?}"))
        .get(0)
}

/// Jobs, and rows noted of which there are none yet: in one statement, since the ones turn into the others.
fn waiting(client: &mut Client) -> i64 {
    count(
        client,
        "(SELECT key FROM infinity_embed.queue WHERE NOT dead UNION ALL SELECT key FROM infinity_embed.changes
          UNION ALL SELECT key FROM infinity_embed.backfill) AS w",
    )
}

/// Rows of `passages` whose embedding is not that of their body: as many tokens, each nearly the same.
fn wrong(client: &mut Client) -> i64 {
    count(
        client,
        "(SELECT id, embedding, body, row_number() OVER (ORDER BY id) AS place FROM passages) AS p
         FULL JOIN (SELECT row_number() OVER () AS place, e.fresh FROM
             infinity_embed_texts((SELECT array_agg(body ORDER BY id) FROM passages)) AS e(fresh)) AS e USING (place)
         WHERE CASE WHEN body IS NULL THEN embedding IS NOT NULL
               ELSE embedding IS NULL OR array_length(embedding, 1) <> array_length(fresh, 1)
                    OR maxsim(embedding, fresh) < 0.999 * maxsim(fresh, fresh) END",
    )
}
