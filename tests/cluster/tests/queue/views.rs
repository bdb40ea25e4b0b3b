//! What one sees of the queue, and waiting for it.

use std::time::Duration;

use cluster_tests::database_error;
use mock_infinity::{Fault, Times};

use crate::{passages, process, server};

#[test]
fn the_views_tell_what_is_pending_failed_and_dead() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 10);
    let monitor = database.role("monitor");
    database.run(&format!("GRANT pg_monitor TO {monitor}; ANALYZE passages"));
    let mut watcher = database.client_as(&monitor);
    let mut status = || {
        let row = watcher
            .query_one("SELECT * FROM infinity_embed.status", &[])
            .unwrap();
        let counts =
            ["rows", "embedded", "pending", "failed", "dead"].map(|name| row.get::<_, i64>(name));
        let has_oldest = row
            .get::<_, Option<std::time::SystemTime>>("oldest_pending")
            .is_some();
        (counts, has_oldest)
    };
    assert_eq!(status(), ([10, 0, 10, 0, 0], true));
    database.run("UPDATE passages SET body = 'POISON' WHERE id = 3");
    assert_eq!(status(), ([10, 0, 10, 0, 0], true));
    server.inject(
        Fault::Poison {
            marker: "POISON".into(),
            status: 422,
        },
        Times::Always,
    );
    process(&mut database.client());
    assert_eq!(status(), ([10, 9, 1, 1, 0], true));
    database.set("infinity_embed.max_attempts", "1");
    database.run("UPDATE passages SET body = 'more POISON' WHERE id = 3");
    process(&mut database.client());
    assert_eq!(status(), ([10, 9, 0, 0, 1], false));
    let row = database
        .client_as(&monitor)
        .query_one(
            "SELECT relation::text, target::text, key, error, dead FROM infinity_embed.errors",
            &[],
        )
        .unwrap();
    assert_eq!(
        (row.get(0), row.get(1), row.get(2), row.get(4)),
        ("passages", "embedding", "3", true)
    );
    assert!(row.get::<_, &str>(3).contains("refused the input"));
    let other = database.role("other");
    let error = database_error(
        database
            .client_as(&other)
            .batch_execute("SELECT * FROM infinity_embed.errors"),
    );
    assert_eq!(error.code().code(), "42501");
}

#[test]
fn wait_returns_when_nothing_is_pending_or_the_time_is_up() {
    let server = server(Duration::ZERO);
    let database = passages(&server, 100);
    let wait = |timeout: &str| -> bool {
        database
            .client_as(&database.role(&format!("waiter{}", timeout.len())))
            .query_one(
                &format!("SELECT infinity_embed.wait('passages', '{timeout}')"),
                &[],
            )
            .unwrap()
            .get(0)
    };
    assert!(!wait("0.2 s"));
    database.set("infinity_embed.worker", "on");
    database.run("UPDATE passages SET body = 'new' WHERE id = 1");
    assert!(wait("20 s"));
}
