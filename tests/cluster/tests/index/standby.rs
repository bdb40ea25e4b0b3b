//! A physical standby answers from the index as its primary does, and goes on with it when it is promoted.

use cluster_tests::{Cluster, wait_until};
use postgres::Client;

use super::{
    BOUND, EXACT, INDEX, Random, WHOLE, agrees, check, copy, lists, nearest, ranking, run,
};

const DIM: usize = 8;

fn position(client: &mut Client, function: &str) -> u64 {
    let row = client
        .query_one(&format!("SELECT ({function}() - '0/0')::bigint"), &[])
        .expect("a position");
    row.get::<_, i64>(0) as u64
}

#[test]
fn a_standby_gives_the_same_rows_and_a_promoted_one_goes_on() {
    let primary = Cluster::start_new(&[
        ("wal_consistency_checking", "all"),
        ("autovacuum", "off"),
        ("wal_log_hints", "on"),
    ]);
    let database = primary.database();
    let mut client = database.client();
    run(
        &mut client,
        "CREATE TABLE docs (id int, embedding real[]);
         CREATE INDEX docs_index ON docs USING maxsim (embedding)",
    );
    let standby = primary.standby();
    let mut reader = standby.connect(database.name());
    let mut random = Random::new(1);
    // Untrained, trained by the copy, built anew.
    let steps: [(&str, usize); 4] = [
        ("SELECT", 50),
        ("DELETE FROM docs WHERE id % 3 = 0", 500),
        ("REINDEX INDEX docs_index", 0),
        ("UPDATE docs SET embedding = embedding[1:3]", 100),
    ];
    let mut ids = 0;
    for (statement, more) in steps {
        copy(
            &mut client,
            "docs",
            ids..ids + more,
            300..500,
            DIM,
            &mut random,
        )
        .expect("documents");
        ids += more;
        run(&mut client, statement);
        run(&mut client, "VACUUM docs");
        let end = position(&mut client, "pg_current_wal_lsn");
        wait_until("the standby has replayed it", BOUND, || {
            position(&mut reader, "pg_last_wal_replay_lsn") >= end
        });
        let query = nearest(&random.document(6, DIM), "true");
        for plan in [INDEX, WHOLE, EXACT] {
            assert_eq!(
                ranking(&mut client, plan, &query),
                ranking(&mut reader, plan, &query)
            );
        }
        agrees(&mut reader, &query);
        let of_both = [&mut client, &mut reader].map(|client| lists(client, "docs_index"));
        println!("after {statement}: {of_both:?} lists");
        assert_eq!(of_both[0], of_both[1]);
    }
    standby.promote();
    copy(
        &mut reader,
        "docs",
        ids..ids + 50,
        300..500,
        DIM,
        &mut random,
    )
    .expect("documents");
    run(&mut reader, "VACUUM docs");
    copy(
        &mut reader,
        "docs",
        ids..ids + 50,
        300..500,
        DIM,
        &mut random,
    )
    .expect("documents");
    check(&mut reader, "docs_index");
    agrees(&mut reader, &nearest(&random.document(6, DIM), "true"));
    assert!(!standby.log().contains("inconsistent page found"));
}
