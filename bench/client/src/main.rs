//! Fills the column `embedding` of a table (id, body, embedding) as a client of database and Infinity server would: reads some
//! rows, has them embedded, writes them with one UPDATE. `make bench-queue` compares the queue with it.
//!
//! Usage: `bench-client URL MODEL TABLE ROWS REQUEST_SIZE REQUESTS`, the database as in libpq's PGHOST, PGPORT, PGUSER; ROWS are read
//! and written at once, REQUEST_SIZE go into a request, and REQUESTS are in flight. Prints how many rows it has filled.
//! Not obvious: vectors travel as bytes, which the extension's own function turns into arrays, since that is quickest.

use std::error::Error;

use infinity_client::{BlockingWait, Client, Config};
use postgres::NoTls;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, model, table, rows, request_size, requests] = arguments.as_slice() else {
        return Err("usage: bench-client URL MODEL TABLE ROWS REQUEST_SIZE REQUESTS".into());
    };
    let mut config = Config::new(url, model);
    config.dim = Some(128);
    config.batch_size = request_size.parse()?;
    config.max_concurrency = requests.parse()?;
    println!("{}", fill(&config, table, rows.parse()?)?);
    Ok(())
}

/// Fills every row in the order of their ids; gives how many there were.
fn fill(config: &Config, table: &str, rows: i64) -> Result<usize, Box<dyn Error>> {
    let mut session = connect()?;
    let select = session.prepare(&format!(
        "SELECT id, body FROM {table} WHERE id > $1 ORDER BY id LIMIT $2"
    ))?;
    let update = session.prepare(&format!(
        "UPDATE {table} AS t SET embedding = infinity_embed.vectors(v.bytes, $3::int4)
         FROM unnest($1::int8[], $2::bytea[]) AS v(id, bytes) WHERE t.id = v.id"
    ))?;
    let client = Client::new();
    let (mut filled, mut last) = (0, i64::MIN);
    loop {
        let (mut ids, mut texts) = (Vec::new(), Vec::new());
        for row in session.query(&select, &[&last, &rows])? {
            ids.push(row.get::<_, i64>(0));
            texts.push(row.get::<_, String>(1));
        }
        let Some(&newest) = ids.last() else {
            return Ok(filled);
        };
        last = newest;
        let mut dim = 0;
        let mut bytes = Vec::with_capacity(ids.len());
        for outcome in client.embed_texts(config, texts, &mut BlockingWait)? {
            let vectors = outcome?;
            dim = vectors.dim as i32;
            let values = vectors.values.iter().flat_map(|value| value.to_ne_bytes());
            bytes.push(values.collect::<Vec<u8>>());
        }
        filled += session.execute(&update, &[&ids, &bytes, &dim])? as usize;
    }
}

fn connect() -> Result<postgres::Client, Box<dyn Error>> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    Ok(postgres::Config::new()
        .host(&variable("PGHOST")?)
        .port(variable("PGPORT")?.parse()?)
        .user(&variable("PGUSER")?)
        .dbname("postgres")
        .connect(NoTls)?)
}
