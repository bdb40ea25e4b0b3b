//! Damaged files: every use of the index is an error that says so, or right. Never a crash, an endless loop, or a file that grows
//! where a damaged link points.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use cluster_tests::{Backend, Cluster, database_error};
use postgres::Client;

use super::{EXACT, INDEX, Random, WHOLE, check, copy, is_long, is_same, ranking, run, shared};

const DIM: usize = 16;
const BLOCK: usize = 8192;

/// Damages a file of pages; says how.
fn damage(path: &Path, random: &mut Random) -> String {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("the index's file");
    let blocks = file.metadata().expect("it has a size").len() as usize / BLOCK;
    // The meta page more often than the others.
    let block = if random.below(4) == 0 {
        0
    } else {
        random.below(blocks)
    };
    let at = (block * BLOCK) as u64;
    let mut page = vec![0u8; BLOCK];
    file.read_exact_at(&mut page, at).expect("a whole page");
    let (what, first, bytes) = match random.below(8) {
        0 => ("zeros", 0, BLOCK),
        1 => ("random bytes", 0, BLOCK),
        2 => ("random bytes behind the header", 24, BLOCK - 24),
        3 => ("a random special space", BLOCK - 8, 8),
        4 => ("random line pointers", 24, 64),
        5 => ("ones", 24 + random.below(2000), 40),
        6 => ("ones at the end", BLOCK - 8 - 8 * random.of(1..200), 16),
        _ => ("single bytes", 0, 0),
    };
    for (offset, byte) in page[first..first + bytes].iter_mut().enumerate() {
        *byte = match what {
            "zeros" => 0,
            "ones" | "ones at the end" => 0xff,
            // The kind of page stays, or nothing but that would be tried.
            "random bytes behind the header" if first + offset >= BLOCK - 8 => *byte,
            "a random special space" if offset >= 6 => *byte,
            _ => random.next() as u8,
        };
    }
    if bytes == 0 {
        for _ in 0..random.of(1..9) {
            // What is not a hole.
            let hole = usize::from(u16::from_le_bytes([page[12], page[13]]))
                ..usize::from(u16::from_le_bytes([page[14], page[15]]));
            let mut offset = random.below(BLOCK);
            if hole.contains(&offset) {
                offset = (hole.end + random.below(BLOCK - hole.end + 1)).min(BLOCK - 1);
            }
            page[offset] ^= 1 << random.below(8);
        }
    }
    file.write_all_at(&page, at).expect("the page is written");
    format!("block {block} of {blocks}: {what} from {first}")
}

/// Runs statements; gives the SQLSTATE.
fn state(client: &mut Client, statements: &str, what: &str) -> String {
    let result = client.batch_execute(statements);
    let Err(error) = result else {
        return "00000".to_owned();
    };
    let code = error.code().map(|code| code.code().to_owned());
    // 22000: the meta page's own words about dimensions; 0A000: about its version.
    match code.as_deref() {
        Some(code @ ("XX001" | "XX002" | "22000" | "0A000")) => code.to_owned(),
        _ => panic!("{what}: {statements:.80}: {error:?}"),
    }
}

#[test]
fn a_damaged_index_is_an_error_or_right_and_never_a_crash() {
    let cluster = Cluster::start_new(&[
        ("autovacuum", "off"),
        ("restart_after_crash", "off"),
        ("shared_buffers", "64MB"),
    ]);
    let database = cluster.database();
    let mut client = database.client();
    let mut random = Random::new(1);
    let tables = if is_long() { 1_000 } else { 60 };
    run(&mut client, "CREATE TABLE docs (id int, embedding real[])");
    copy(&mut client, "docs", 0..150, 1..60, DIM, &mut random).expect("documents");
    for number in 0..tables {
        let lists = [0, 16, 200][number % 3];
        run(
            &mut client,
            &format!(
                "CREATE TABLE docs_{number} AS SELECT * FROM docs;
                 CREATE INDEX index_{number} ON docs_{number} USING maxsim (embedding) WITH (lists = {lists});
                 INSERT INTO docs_{number} SELECT id + 1000, embedding FROM docs WHERE id < 30"
            ),
        );
    }
    let paths: Vec<String> = (0..tables)
        .map(|number| {
            let query = format!("SELECT pg_relation_filepath('index_{number}')");
            client.query_one(&query, &[]).expect("a path").get(0)
        })
        .collect();
    drop(client);
    cluster.stop();
    let damaged: Vec<String> = paths
        .iter()
        .map(|path| damage(&cluster.data().join(path), &mut random))
        .collect();
    cluster.start();
    let mut client = database.client();
    let server = Backend::of(&mut client);
    run(&mut client, "SET statement_timeout = '20s'");
    let query = random.document(6, DIM);
    let (mut found, mut harmless) = (0, 0);
    for (number, what) in damaged.iter().enumerate() {
        let what = format!("table {number}, {what}");
        let search = format!(
            "SELECT id, embedding @# '{query}'::real[] FROM docs_{number} ORDER BY embedding @# '{query}'::real[]"
        );
        let statements = [
            format!("SELECT infinity_embed.check_index('index_{number}', content => true)"),
            format!("SELECT infinity_embed.index_info('index_{number}')"),
            format!("{INDEX}; {search} LIMIT 10"),
            format!("{INDEX}; SELECT count(*) FROM ({search}) AS s"),
            format!("{WHOLE}; SELECT count(*) FROM ({search}) AS s"),
            format!(
                "{INDEX}; PREPARE p{number}(real[]) AS SELECT count(*) FROM (SELECT id FROM docs_{number} ORDER BY embedding @# $1 LIMIT 100) AS s"
            ),
            format!("SET plan_cache_mode = force_generic_plan; EXECUTE p{number}(NULL)"),
            format!(
                "INSERT INTO docs_{number} SELECT id + 2000, embedding FROM docs WHERE id < 60"
            ),
            format!("DELETE FROM docs_{number} WHERE id % 3 = 0"),
            format!("VACUUM docs_{number}"),
            format!(
                "INSERT INTO docs_{number} SELECT id + 3000, embedding FROM docs WHERE id < 60"
            ),
        ];
        let states: Vec<String> = statements
            .iter()
            .map(|statement| state(&mut client, statement, &what))
            .collect();
        if states[0] == "00000" {
            harmless += 1;
            // What check_index() lets pass is as good as whole.
            assert!(
                states.iter().all(|state| state == "00000"),
                "{what}: {states:?}"
            );
            let exact = ranking(&mut client, EXACT, &search);
            let found = ranking(&mut client, WHOLE, &search);
            assert!(is_same(&exact, &found), "{what}");
        } else {
            found += 1;
        }
        let size = fs::metadata(cluster.data().join(&paths[number]))
            .expect("a file")
            .len();
        assert!(size < 3_000_000, "{what}: {size} bytes");
        // And REINDEX mends it.
        run(&mut client, &format!("REINDEX INDEX index_{number}"));
        let mended =
            format!("SELECT infinity_embed.check_index('index_{number}', content => true)");
        assert_eq!(state(&mut client, &mended, &what), "00000");
    }
    println!("{found} found damaged, {harmless} harmless");
    assert!(found > tables / 3 && harmless > 0);
    assert!(server.is_alive());
    assert!(!cluster.log().contains("PANIC"));
}

#[test]
fn codes_that_are_not_those_of_their_rows_are_found() {
    let database = shared();
    let mut client = database.client();
    let document = |sign: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION made(id int) RETURNS real[] LANGUAGE sql IMMUTABLE AS $$
             SELECT array_agg(ARRAY[sin(id * t), cos(id + t), {sign} * sin(id - t)]::real[]) FROM generate_series(1, 5) AS t $$"
        )
    };
    run(&mut client, &document("1"));
    run(
        &mut client,
        "CREATE TABLE docs AS SELECT id FROM generate_series(1, 300) AS id;
         CREATE INDEX docs_flat ON docs USING maxsim (made(id));
         CREATE INDEX docs_index ON docs USING maxsim (made(id)) WITH (lists = 16)",
    );
    for index in ["docs_flat", "docs_index"] {
        assert_eq!(check(&mut client, index), (300, 300));
    }
    // Promised to be immutable, and changed.
    run(&mut client, &document("-1"));
    for index in ["docs_flat", "docs_index"] {
        let structure = format!("SELECT infinity_embed.check_index('{index}')");
        run(&mut client, &structure);
        let content = format!("SELECT infinity_embed.check_index('{index}', content => true)");
        let error = database_error(client.batch_execute(&content));
        assert_eq!(
            (error.code().code(), error.message()),
            (
                "XX002",
                "maxsim index is damaged: row (0,1) of the table has codes in the index that are not its own"
            )
        );
        run(&mut client, &format!("REINDEX INDEX {index}"));
        assert_eq!(check(&mut client, index), (300, 300));
    }
}
