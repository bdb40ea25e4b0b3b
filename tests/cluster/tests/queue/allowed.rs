//! Who may still call out: what a role has switched on goes on only as long as it may.

use std::time::Duration;

use cluster_tests::{Database, database_error};

use crate::{database, process, server, waiting};

/// A table `docs` of five rows, of that owner, switched on by that role.
fn switched_on(database: &Database, owner: &str, caller: &str) {
    database.run(&format!(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding real[]); ALTER TABLE docs OWNER TO {owner};
         INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 5) AS i"
    ));
    database.run(&format!(
        "SET ROLE {caller}; SELECT infinity_embed.auto_embed('docs', 'body', 'embedding')"
    ));
}

#[test]
fn what_a_role_has_switched_on_stops_when_it_may_no_longer_call_out() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let (owner, member) = (database.role("owner"), database.role("member"));
    let mut client = database.client();
    database.run(&format!("GRANT {owner} TO {member}"));
    for (caller, allowed) in [(&owner, &owner), (&member, &member), (&member, &owner)] {
        client
            .batch_execute(&format!("SELECT infinity_embed.allow('{allowed}')"))
            .unwrap();
        switched_on(&database, &owner, caller);
        client
            .batch_execute(&format!("SELECT infinity_embed.disallow('{allowed}')"))
            .unwrap();
        process(&mut client);
        assert_eq!((server.requests().len(), waiting(&mut client)), (0, 5));
        let (problem, blamed): (String, i64) = {
            let row = client
                .query_one(
                    "SELECT problem, (SELECT count(*) FROM infinity_embed.jobs WHERE attempts > 0) FROM infinity_embed.status",
                    &[],
                )
                .unwrap();
            (row.get(0), row.get(1))
        };
        let expected = format!(
            "neither the owner of public.docs nor role \"{caller}\", which called auto_embed(), may call the Infinity server for it. \
             SELECT infinity_embed.allow('{owner}'), or infinity_embed.stop_auto_embed('public.docs', 'embedding')."
        );
        assert_eq!((problem, blamed), (expected, 0));
        let error = database_error(client.batch_execute("SELECT infinity_embed.wait('docs')"));
        assert_eq!(error.code().code(), "55000", "{error}");
        client
            .batch_execute(&format!("SELECT infinity_embed.allow('{owner}')"))
            .unwrap();
        process(&mut client);
        assert_eq!(waiting(&mut client), 0);
        client
            .batch_execute(&format!(
                "SELECT infinity_embed.disallow('{owner}'); DROP TABLE docs"
            ))
            .unwrap();
        server.clear_requests();
    }
}

#[test]
fn a_table_that_a_superuser_switched_on_needs_no_allowed_owner() {
    let server = server(Duration::ZERO);
    let database = database(&server);
    let (owner, heir) = (database.role("owner"), database.role("heir"));
    let mut client = database.client();
    database.run(&format!("ALTER ROLE {owner} NOLOGIN"));
    switched_on(&database, &owner, "postgres");
    process(&mut client);
    assert_eq!(waiting(&mut client), 0);
    // Nor does another owner, unless it is the old one who switched it on.
    let change = format!("ALTER TABLE docs OWNER TO {heir}; UPDATE docs SET body = body || '.'");
    client.batch_execute(&change).unwrap();
    process(&mut client);
    assert_eq!(waiting(&mut client), 0);
    client
        .batch_execute(&format!(
            "DROP TABLE docs; SELECT infinity_embed.allow('{owner}')"
        ))
        .unwrap();
    switched_on(&database, &owner, &owner);
    client.batch_execute(&change).unwrap();
    process(&mut client);
    assert_eq!(waiting(&mut client), 5);
    client
        .batch_execute(&format!("SELECT infinity_embed.allow('{heir}')"))
        .unwrap();
    process(&mut client);
    assert_eq!(waiting(&mut client), 0);
}
