//! What the server has seen: one record per request, and the gauges that tests ask for. Filled by the connection loop and
//! by the routes, read through `Server` and `/mock/requests`.
//!
//! Only the latest requests are kept, so that a long measurement does not fill the memory.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

/// Records kept.
const KEPT: usize = 65_536;

/// One request.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// HTTP method.
    pub method: String,
    /// Path as asked for.
    pub path: String,
    /// `model` of the request.
    pub model: Option<String>,
    /// `modality` of the request, `text` when it names none.
    pub modality: Option<String>,
    /// `encoding_format` exactly as asked for; `None` when it was left out.
    pub encoding_format: Option<String>,
    /// Names of all the fields in the request's body.
    pub fields: Vec<String>,
    /// Number of inputs.
    pub inputs: usize,
    /// Length of the body.
    pub body_bytes: usize,
    /// `Authorization` was there.
    pub authorized: bool,
    /// Port of the client's end.
    pub peer_port: u16,
    /// Number of the connection, from 1.
    pub connection: u64,
    /// When the head had been read.
    pub started: Instant,
    /// When the last byte of the answer was handed to the kernel, or the client had gone; `None` while it runs.
    pub ended: Option<Instant>,
    /// The status answered with; `None` when there was no answer.
    pub status: Option<u16>,
    /// The client closed the connection before the answer was complete.
    pub client_gone: bool,
}

/// A record's handle.
pub(crate) type Id = u64;

#[derive(Debug, Default)]
struct Records {
    first: Id,
    records: VecDeque<Recorded>,
    in_flight: usize,
    max_in_flight: usize,
    connections: usize,
    last_connection: u64,
}

/// All records and gauges.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Records>);

impl Journal {
    pub(crate) fn begin(&self, record: Recorded) -> Id {
        let mut inner = self.0.lock().unwrap();
        if inner.records.len() == KEPT {
            inner.records.pop_front();
            inner.first += 1;
        }
        inner.records.push_back(record);
        inner.first + inner.records.len() as Id - 1
    }

    pub(crate) fn amend(&self, id: Id, change: impl FnOnce(&mut Recorded)) {
        let mut inner = self.0.lock().unwrap();
        let first = inner.first;
        let place = id.checked_sub(first).map(|place| place as usize);
        if let Some(record) = place.and_then(|place| inner.records.get_mut(place)) {
            change(record);
        }
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.0.lock().unwrap().records.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        let mut inner = self.0.lock().unwrap();
        inner.first += inner.records.len() as Id;
        inner.records.clear();
        inner.max_in_flight = inner.in_flight;
    }

    pub(crate) fn max_in_flight(&self) -> usize {
        self.0.lock().unwrap().max_in_flight
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.0.lock().unwrap().connections
    }

    /// Counts an embedding request in; `leave` counts it out.
    pub(crate) fn enter(&self) {
        let mut inner = self.0.lock().unwrap();
        inner.in_flight += 1;
        inner.max_in_flight = inner.max_in_flight.max(inner.in_flight);
    }

    pub(crate) fn leave(&self) {
        self.0.lock().unwrap().in_flight -= 1;
    }

    /// Counts a connection in and numbers it.
    pub(crate) fn connected(&self) -> u64 {
        let mut inner = self.0.lock().unwrap();
        inner.connections += 1;
        inner.last_connection += 1;
        inner.last_connection
    }

    pub(crate) fn disconnected(&self) {
        self.0.lock().unwrap().connections -= 1;
    }
}
