//! Kills processes at random while rows are embedded and changed: at the end every row has the embedding of its source.
//!
//! INFINITY_EMBED_KILLS sets how often (5), INFINITY_EMBED_ROWS how many rows (1000), INFINITY_EMBED_SEED the seed, which is
//! printed. The bar is 50 kills and 10,000 rows.

use std::time::Duration;

use cluster_tests::{Backend, Cluster, wait_until};
use mock_infinity::{Model, Options, Server};
use postgres::{Client, NoTls};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn no_kill_loses_an_embedding_or_leaves_a_stale_one() {
    let (kills, rows) = (
        setting("INFINITY_EMBED_KILLS", 5),
        setting("INFINITY_EMBED_ROWS", 1000),
    );
    let seed = setting("INFINITY_EMBED_SEED", u64::from(std::process::id()));
    println!("INFINITY_EMBED_SEED={seed}");
    let mut random = Random(seed.max(1));
    let mut server = Server::start(Options {
        latency: Duration::from_millis(20),
        ..Options::new(Model::lite("michaelfeil/colqwen2-v0.1"))
    });
    let cluster = Cluster::start_new(&[]);
    let database = cluster.database();
    database.set("infinity_embed.url", &server.url());
    database.run(&format!(
        "CREATE TABLE passages (id int PRIMARY KEY, body text NOT NULL, embedding real[]);
         SELECT infinity_embed.auto_embed('passages', source => 'body', target => 'embedding');
         INSERT INTO passages SELECT i, 'passage number ' || i FROM generate_series(1, {rows}) AS i"
    ));
    for round in 0..kills {
        let mut client = connect(&cluster, database.name());
        for _ in 0..5 {
            let first = random.below(rows);
            client
                .batch_execute(&format!(
                    "UPDATE passages SET body = 'round {round} ' || id WHERE id BETWEEN {first} AND {first} + 20"
                ))
                .expect("nothing is killed yet");
        }
        let before = server.requests().len();
        wait_until("the worker works", LONG, || {
            server.requests().len() > before || waiting(&mut client) == 0
        });
        let kind = random.below(4);
        println!("round {round}: kill {kind}");
        match kind {
            0 | 1 => {
                let mut observer = connect(&cluster, database.name());
                let victim = match kind {
                    0 => worker(&mut client),
                    _ => Some(Backend::of(&mut client)),
                };
                if let Some(victim) = victim {
                    victim.kill();
                    // The postmaster then ends every session.
                    wait_until("the crash is noticed", LONG, || {
                        observer.simple_query("").is_err()
                    });
                }
            }
            2 => {
                cluster.postmaster().kill();
                // Until it has been waited for, pg_ctl takes the dead postmaster for a running one.
                wait_until("the cluster has started again", LONG, || {
                    can_start(&cluster)
                        && cluster
                            .config("postgres", "postgres")
                            .connect(NoTls)
                            .is_ok()
                });
            }
            _ => server.restart_on_same_port(),
        }
    }
    let mut client = connect(&cluster, database.name());
    wait_until("nothing waits", LONG, || {
        // As any writer would: what a crash left over is picked up by the next one.
        client
            .batch_execute("UPDATE passages SET body = body || '.' WHERE id = 1")
            .expect("nothing is killed any more");
        wait_until("the change is embedded", LONG, || waiting(&mut client) == 0);
        waiting(&mut client) == 0
    });
    let row = client
        .query_one(
            "SELECT count(*), count(DISTINCT p.id) FILTER (WHERE embedding IS NULL
                 OR array_length(embedding, 1) <> array_length(fresh, 1)
                 OR maxsim(embedding, fresh) < 0.999 * maxsim(fresh, fresh)),
                 (SELECT count(*) FROM infinity_embed.jobs)
             FROM (SELECT *, row_number() OVER (ORDER BY id) AS place FROM passages) AS p
             JOIN (SELECT e.fresh, row_number() OVER () AS place FROM
                 infinity_embed_texts((SELECT array_agg(body ORDER BY id) FROM passages)) AS e(fresh)) AS e USING (place)",
            &[],
        )
        .unwrap();
    assert_eq!(
        (row.get(0), row.get(1), row.get(2)),
        (rows as i64, 0_i64, 0_i64),
        "rows, wrong, jobs"
    );
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

/// A session, as soon as the cluster accepts one again.
fn connect(cluster: &Cluster, database: &str) -> Client {
    let mut client = None;
    wait_until("the cluster accepts sessions", LONG, || {
        client = cluster.config(database, "postgres").connect(NoTls).ok();
        client
            .as_mut()
            .is_some_and(|client| client.simple_query("SELECT 1").is_ok())
    });
    client.expect("just connected")
}

fn waiting(client: &mut Client) -> i64 {
    client
        .query_one(
            "SELECT (SELECT count(*) FROM infinity_embed.jobs) + (SELECT count(*) FROM infinity_embed.changes)",
            &[],
        )
        .expect("the session lives")
        .get(0)
}

fn worker(client: &mut Client) -> Option<Backend> {
    client
        .query(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'infinity_embed worker'",
            &[],
        )
        .expect("the session lives")
        .first()
        .map(|row| Backend::new(row.get(0)))
}

/// Whether the children of a killed postmaster have gone, so that it starts.
fn can_start(cluster: &Cluster) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cluster.start())).is_ok()
}

/// xorshift64: the same kills for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
