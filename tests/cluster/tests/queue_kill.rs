//! Kills processes at random while rows are embedded and changed: at the end every row has the embedding of its source.
//!
//! INFINITY_EMBED_KILLS sets how often (6), INFINITY_EMBED_ROWS how many rows (1000), INFINITY_EMBED_SEED the seed, which is
//! printed. The bar is 50 kills and 10,000 rows. The Infinity server is this program again, as a process that can be killed.

use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cluster_tests::{Backend, Cluster, Database, Report, wait_until};
use mock_infinity::{Model, Options, Server};
use postgres::{Client, NoTls};

const LONG: Duration = Duration::from_secs(120);
const SERVE: &str = "--serve-on";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, port] = arguments.as_slice()
        && flag == SERVE
    {
        serve(port.parse().expect("a port"));
    }
    let name = "no_kill_loses_an_embedding_or_leaves_a_stale_one";
    let mut report = Report::new();
    if report.wants(name) {
        // The panic's message has been printed by then.
        let result = catch_unwind(AssertUnwindSafe(kill_at_random));
        report.case(name, result.map_err(|_| String::new()));
    }
    report.finish()
}

fn kill_at_random() {
    let (kills, rows) = (
        setting("INFINITY_EMBED_KILLS", 6),
        setting("INFINITY_EMBED_ROWS", 1000),
    );
    let seed = setting("INFINITY_EMBED_SEED", u64::from(std::process::id()));
    println!("INFINITY_EMBED_SEED={seed}");
    let mut random = Random(seed.max(1));
    let mut server = Infinity::start(0);
    let cluster = Cluster::start_new(&[
        ("shared_preload_libraries", "infinity_embed"),
        ("infinity_embed.max_workers", "2"),
    ]);
    let database = cluster.database();
    database.set(
        "infinity_embed.url",
        &format!("http://127.0.0.1:{}", server.port),
    );
    database.run(&format!(
        "CREATE TABLE passages (id int PRIMARY KEY, body text NOT NULL, embedding real[]);
         SELECT infinity_embed.auto_embed('passages', source => 'body', target => 'embedding');
         INSERT INTO passages SELECT i, 'passage number ' || i FROM generate_series(1, {rows}) AS i"
    ));
    for round in 0..kills {
        let mut client = connect(&cluster, database.name());
        change(&mut client, rows, round, &mut random);
        // The first few are one of each.
        let victim = Victim::ALL[if round < 4 { round } else { random.below(4) } as usize];
        wait_until("a batch is under way", LONG, || is_claimed(&mut client));
        sleep(Duration::from_millis(random.below(600)));
        let (pending, embedded) = (waiting(&mut client), embedded(&mut client));
        let begun = Instant::now();
        victim.kill(&cluster, &database, &mut server, &mut client, &mut random);
        println!(
            "round {round}: killed {victim:?}, {embedded} embeddings written, {pending} changes and jobs waiting, back after {:?}",
            begun.elapsed()
        );
    }
    // Nobody writes any more: what a crash has left over is found by the launcher.
    let mut client = connect(&cluster, database.name());
    let taken = wait_until("nothing waits", LONG, || waiting(&mut client) == 0);
    println!("drained {taken:?} after the last kill");
    assert_intact(&mut client, rows);
}

/// Five statements, that together change about half of the rows.
fn change(client: &mut Client, rows: u64, round: u64, random: &mut Random) {
    let tried: i64 = client
        .query_one(
            "SELECT count(*) FROM infinity_embed.queue WHERE attempts > 0",
            &[],
        )
        .expect("nothing is killed yet")
        .get(0);
    assert_eq!(tried, 0, "a kill has spent a row's attempts");
    for _ in 0..5 {
        let first = random.below(rows);
        client
            .batch_execute(&format!(
                "UPDATE passages SET body = 'round {round} ' || id WHERE id BETWEEN {first} AND {first} + {rows} / 10"
            ))
            .expect("nothing is killed yet");
    }
}

fn assert_intact(client: &mut Client, rows: u64) {
    let row = client
        .query_one(
            "SELECT count(*), count(DISTINCT p.id) FILTER (WHERE embedding IS NULL
                 OR array_length(embedding, 1) <> array_length(fresh, 1)
                 OR maxsim(embedding, fresh) < 0.999 * maxsim(fresh, fresh)),
                 count(*) FILTER (WHERE body LIKE 'never committed%'),
                 (SELECT count(*) FROM infinity_embed.queue)
             FROM (SELECT *, row_number() OVER (ORDER BY id) AS place FROM passages) AS p
             JOIN (SELECT e.fresh, row_number() OVER () AS place FROM
                 infinity_embed_texts((SELECT array_agg(body ORDER BY id) FROM passages)) AS e(fresh)) AS e USING (place)",
            &[],
        )
        .unwrap();
    let found: [i64; 4] = std::array::from_fn(|column| row.get(column));
    assert_eq!(
        found,
        [rows as i64, 0, 0, 0],
        "rows, wrong, never committed, jobs"
    );
}

/// Whom a round kills, with SIGKILL.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Worker,
    Writer,
    Postmaster,
    Infinity,
}

impl Victim {
    const ALL: [Victim; 4] = [
        Victim::Worker,
        Victim::Writer,
        Victim::Postmaster,
        Victim::Infinity,
    ];

    /// Returns when it, or its successor, is there again.
    fn kill(
        self,
        cluster: &Cluster,
        database: &Database,
        server: &mut Infinity,
        client: &mut Client,
        random: &mut Random,
    ) {
        match self {
            Victim::Worker => {
                let workers = workers(client);
                if workers.is_empty() {
                    return;
                }
                workers[random.below(workers.len() as u64) as usize].kill();
            }
            Victim::Writer => {
                let writer = Backend::of(client);
                client
                    .batch_execute(
                        "BEGIN; UPDATE passages SET body = 'never committed' WHERE id % 10 = 0",
                    )
                    .expect("it is not killed yet");
                writer.kill();
            }
            Victim::Postmaster => cluster.postmaster().kill(),
            Victim::Infinity => return server.kill_and_restart(),
        }
        // The other processes end, too, and are started again by the postmaster, or with it.
        wait_until("the crash is noticed", LONG, || {
            client.simple_query("").is_err()
        });
        if matches!(self, Victim::Postmaster) {
            cluster.start_after_crash();
        }
        connect(cluster, database.name());
    }
}

/// The mock of the Infinity server in a process of its own.
struct Infinity {
    process: Child,
    port: u16,
}

impl Infinity {
    fn start(port: u16) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args([SERVE, &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run again");
        let mut line = String::new();
        let output = process.stdout.take().expect("a pipe was asked for");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says its port");
        let port = line.trim().parse().expect("a port");
        Self { process, port }
    }

    fn kill_and_restart(&mut self) {
        self.kill();
        *self = Self::start(self.port);
    }

    fn kill(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it has been killed");
    }
}

impl Drop for Infinity {
    fn drop(&mut self) {
        // After a failed restart there is none.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until it is killed.
fn serve(port: u16) -> ! {
    let server = Server::start(Options {
        port,
        latency: Duration::from_millis(20),
        ..Options::new(Model::lite("michaelfeil/colqwen2-v0.1"))
    });
    println!("{}", server.port());
    std::io::stdout().flush().expect("the pipe is open");
    loop {
        std::thread::park();
    }
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
            "SELECT (SELECT count(*) FROM infinity_embed.queue) + (SELECT count(*) FROM infinity_embed.changes)
                 + (SELECT count(*) FROM infinity_embed.backfill)",
            &[],
        )
        .expect("the session lives")
        .get(0)
}

fn embedded(client: &mut Client) -> i64 {
    client
        .query_one("SELECT written FROM infinity_embed.targets", &[])
        .expect("the session lives")
        .get(0)
}

fn is_claimed(client: &mut Client) -> bool {
    client
        .query_one(
            "SELECT EXISTS (SELECT FROM infinity_embed.queue WHERE claim IS NOT NULL
                 AND claimed_by IN (SELECT pid FROM pg_stat_activity))",
            &[],
        )
        .expect("the session lives")
        .get(0)
}

fn workers(client: &mut Client) -> Vec<Backend> {
    client
        .query(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'infinity_embed worker'",
            &[],
        )
        .expect("the session lives")
        .iter()
        .map(|row| Backend::new(row.get(0)))
        .collect()
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
