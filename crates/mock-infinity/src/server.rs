//! The server as tests hold it: started, asked what it saw, told to fail, stopped and started again on its port.
//!
//! It lives on a thread with a runtime of its own, so that it can be used from any test, asynchronous or not; stopping it
//! drops all of its sockets before `stop` returns.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;

use socket2::{Domain, Protocol, Socket, Type};

use crate::connection;
use crate::fault::{Endpoint, Fault, Times};
use crate::journal::Recorded;
use crate::options::Options;
use crate::routes::{self, App};

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server and returns once it accepts connections.
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub fn start(options: Options) -> Self {
        Self::try_start(options).expect("the mock server must be able to listen")
    }

    /// Starts a server and returns once it accepts connections.
    ///
    /// # Errors
    /// The address cannot be resolved or listened on.
    pub fn try_start(options: Options) -> io::Result<Self> {
        let address = (options.host.as_str(), options.port)
            .to_socket_addrs()?
            .next()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let listener = listen(address)?;
        let mut server = Self {
            address: listener.local_addr()?,
            app: Arc::new(App::new(options)),
            thread: None,
        };
        server.run(listener)?;
        Ok(server)
    }

    fn run(&mut self, listener: TcpListener) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let app = self.app.clone();
        app.stop.send_replace(false);
        let mut stopping = app.stop.subscribe();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let routes = routes::build(app.clone());
            tokio::select! {
                () = connection::accept(listener, app.clone(), routes) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
            io::Result::Ok(())
        };
        self.thread = Some(
            std::thread::Builder::new()
                .name("mock-infinity".to_owned())
                .spawn(move || {
                    // Only a listener that was bad from the start fails here, and then clients see a refused connection.
                    let _ = runtime.block_on(serve);
                    // Decoding that still runs on a blocking thread holds no socket.
                    runtime.shutdown_background();
                })?,
        );
        Ok(())
    }

    /// The base URL with the prefix: what a client is configured with.
    pub fn url(&self) -> String {
        format!("{}{}", self.origin(), self.app.options.url_prefix)
    }

    /// Scheme, host and port: where `/health` is.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port, which stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Makes the next embedding requests go wrong; earlier faults come first.
    pub fn inject(&self, fault: Fault, times: Times) {
        self.inject_at(Endpoint::Embeddings, fault, times);
    }

    /// The same for another endpoint.
    pub fn inject_at(&self, endpoint: Endpoint, fault: Fault, times: Times) {
        self.app.faults.lock().unwrap().push(endpoint, fault, times);
    }

    /// Forgets all faults still to come and revives a dead worker.
    pub fn clear_faults(&self) {
        self.app.faults.lock().unwrap().clear();
        self.app.revive();
    }

    /// The requests so far, in order of arrival, running ones included; at most the latest 65,536.
    pub fn requests(&self) -> Vec<Recorded> {
        self.app.journal.requests()
    }

    /// Forgets the requests so far and the greatest number in flight.
    pub fn clear_requests(&self) {
        self.app.journal.clear();
    }

    /// The greatest number of embedding requests in flight at once.
    pub fn max_in_flight(&self) -> usize {
        self.app.journal.max_in_flight()
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.app.journal.open_connections()
    }

    /// Closes the port and every connection; returns when that is done. What was recorded stays.
    pub fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.app.stop.send_replace(true);
            // A panic of the server's thread has been printed there; the test goes on to see what is missing.
            let _ = thread.join();
        }
    }

    /// Starts again after `stop`, on the same port, with living workers.
    ///
    /// # Panics
    /// If the port has been taken by somebody else.
    pub fn restart_on_same_port(&mut self) {
        self.stop();
        self.app.revive();
        let listener = listen(self.address).expect("the port of a stopped mock server is free");
        self.run(listener).expect("a thread for the mock server");
    }

    /// Waits until `/mock/stop` is asked for.
    pub fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Listens with SO_REUSEADDR, without which a restart would wait for the kernel to forget the old connections.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}
