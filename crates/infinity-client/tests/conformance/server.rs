//! A second lite server with start options of a test's own, and a way past the client's guards to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The name that the lite server serves its model under.
pub(crate) const LITE_MODEL: &str = "minilm-colbert-lite";

/// Stopped when dropped.
pub(crate) struct SecondServer {
    /// With the path prefix.
    pub(crate) url: String,
    state: &'static str,
}

impl SecondServer {
    pub(crate) fn start(state: &'static str, options: &[&str]) -> Self {
        let output = Command::new(tool("start.sh"))
            .args(["--state", state])
            .args(options)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let url = printed.lines().last().unwrap().to_string();
        SecondServer { url, state }
    }

    /// The address of the server itself, without the prefix.
    pub(crate) fn origin(&self) -> String {
        let end = self.url[7..].find('/').map_or(self.url.len(), |at| at + 7);
        self.url[..end].to_string()
    }

    /// Posts a body and waits a moment for an answer that a dead worker never gives.
    pub(crate) fn post_past_the_client(&self, path: &str, body: &str) -> String {
        let host = self.origin().replace("http://", "");
        let mut stream = TcpStream::connect(&host).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        // A time-out is what is hoped for; what came until then tells.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for SecondServer {
    fn drop(&mut self) {
        let stopped = Command::new(tool("stop.sh"))
            .args(["--state", self.state])
            .status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("the server \"{}\" was not stopped", self.state);
        }
    }
}

fn tool(name: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/infinity-lite");
    tools.join(name)
}
