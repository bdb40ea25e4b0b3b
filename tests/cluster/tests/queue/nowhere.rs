//! Where no process of ours may start: on a standby, and under pg_upgrade.

use std::time::Duration;

use cluster_tests::{Cluster, wait_until};
use postgres::Client;

use crate::launcher::PRELOAD;
use crate::worker::SOON;
use crate::{passages_of, server, waiting, wrong};

/// What the postmaster says when it starts a background worker.
const STARTS: &str = "starting background worker process \"infinity_embed";

fn processes(client: &mut Client) -> i64 {
    crate::count(
        client,
        "pg_stat_activity WHERE backend_type LIKE 'infinity_embed%'",
    )
}

#[test]
fn nothing_starts_on_a_standby_until_it_is_promoted() {
    let mut server = server(Duration::ZERO);
    let primary = Cluster::start_new(&[PRELOAD, ("log_min_messages", "debug1")]);
    let database = passages_of(&primary, &server, 50);
    database.set("infinity_embed.worker", "on");
    server.stop();
    database.run("UPDATE passages SET body = body || '!'");
    assert!(primary.log().contains(STARTS));
    let standby = primary.standby();
    let mut reader = standby.connect(database.name());
    wait_until("the changes are there", SOON, || {
        waiting(&mut reader) == 100 || waiting(&mut reader) == 50
    });
    assert_eq!(processes(&mut reader), 0);
    let error =
        cluster_tests::database_error(reader.batch_execute("CALL infinity_embed.process_queue()"));
    assert_eq!(error.code().code(), "25006", "{error}");
    primary.stop();
    server.restart_on_same_port();
    assert_eq!(processes(&mut reader), 0);
    assert_eq!(server.requests().len(), 0);
    assert!(!standby.log().contains(STARTS));

    standby.promote();
    wait_until("nothing waits", SOON, || waiting(&mut reader) == 0);
    assert_eq!(wrong(&mut reader), 0);
    assert!(standby.log().contains(STARTS));
}

#[test]
fn nothing_starts_under_pg_upgrade() {
    let server = server(Duration::ZERO);
    let cluster = Cluster::start_new(&[PRELOAD, ("log_min_messages", "debug1")]);
    let database = passages_of(&cluster, &server, 50);
    database.set("infinity_embed.worker", "on");
    cluster.stop();
    let before = cluster.log().len();

    cluster.start_with_options("-b");
    database.run("UPDATE passages SET body = body || '!'");
    let mut client = database.client();
    assert_eq!(processes(&mut client), 0);
    assert!(waiting(&mut client) >= 50);
    cluster.stop();
    assert!(!cluster.log()[before..].contains(STARTS));
    assert_eq!(server.requests().len(), 0);

    cluster.start();
    assert!(cluster.log()[before..].contains(STARTS));
    let mut client = database.client();
    wait_until("nothing waits", SOON, || waiting(&mut client) == 0);
    assert_eq!(wrong(&mut client), 0);
}
