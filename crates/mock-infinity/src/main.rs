//! The binary: a mock Infinity server on the command line, for demonstrations of failure and for measurements.
//!
//! Prints `listening on URL` once it accepts connections, and runs until it is killed or `/mock/stop` is asked for.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mock_infinity::{Model, Options, Server};

/// A faithful, deterministic, fault-injecting Infinity embedding server.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 7997)]
    port: u16,
    /// A served model, KIND one of colbert, colqwen2, colpali, single, lite; may be given more than once.
    #[arg(long = "model", value_name = "NAME=KIND[:dim]", value_parser = Model::parse,
          default_value = "michaelfeil/colqwen2-v0.1=colqwen2")]
    models: Vec<Model>,
    /// The Bearer key to ask for.
    #[arg(long)]
    api_key: Option<String>,
    /// Path in front of the endpoints, such as /v1.
    #[arg(long, default_value = "")]
    url_prefix: String,
    /// Milliseconds added to every embedding request.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Microseconds the one worker takes for every input.
    #[arg(long, default_value_t = 0)]
    item_latency_us: u64,
    /// Inputs waiting beyond which a request is answered with 429.
    #[arg(long, default_value_t = 32_000)]
    queue_size: usize,
    /// Serve /mock/fault, /mock/clear, /mock/requests and /mock/stop.
    #[arg(long)]
    control: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(first) = arguments.models.first() else {
        return ExitCode::FAILURE;
    };
    let options = Options {
        models: arguments.models.clone(),
        host: arguments.host,
        port: arguments.port,
        api_key: arguments.api_key,
        url_prefix: arguments.url_prefix,
        latency: Duration::from_millis(arguments.latency_ms),
        latency_per_item: Duration::from_micros(arguments.item_latency_us),
        queue_size: arguments.queue_size,
        control: arguments.control,
        ..Options::new(first.clone())
    };
    let mut server = match Server::try_start(options) {
        Ok(server) => server,
        Err(problem) => {
            eprintln!("cannot listen on port {}: {problem}", arguments.port);
            return ExitCode::FAILURE;
        }
    };
    println!("listening on {}", server.url());
    // Whoever started this reads the line through a pipe.
    let _ = std::io::stdout().flush();
    server.wait();
    ExitCode::SUCCESS
}
