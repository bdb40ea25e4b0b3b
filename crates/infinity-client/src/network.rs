//! The one network thread, and how the calling thread waits for it.
//!
//! The caller's thread must stay its own master: PostgreSQL has to see its signals and cancel at any moment. So the work
//! runs on one other thread, which has every signal blocked, and the caller waits on a doorbell: a socket that becomes
//! readable (end of file) when the work is over, however it ended. If the caller unwinds instead, a guard aborts the
//! work, and its sockets close at once.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::Error;
use crate::transport::Transport;

/// Threads beside the network thread, for what blocks: decoding images and looking up names.
const MAX_BLOCKING_THREADS: usize = 2;
/// How long such a thread waits for more work before it ends.
const BLOCKING_THREAD_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// What the calling thread does while the network thread works.
///
/// `wait` blocks until `doorbell` is readable; returning without it is fine. It may unwind (PostgreSQL's cancel): the
/// call is then aborted and its sockets close.
pub trait Wait {
    /// Blocks until `doorbell` is readable.
    fn wait(&mut self, doorbell: BorrowedFd<'_>);
}

/// Waits in poll(2): for tests and tools, which nobody cancels.
pub struct BlockingWait;

impl Wait for BlockingWait {
    fn wait(&mut self, doorbell: BorrowedFd<'_>) {
        // An interrupted or failed poll is a spurious return, which the caller takes in its stride.
        let _ = poll(
            &mut [PollFd::new(doorbell, PollFlags::POLLIN)],
            PollTimeout::NONE,
        );
    }
}

/// The thread, its runtime, and the connections that live on it.
pub(crate) struct Network {
    /// The process that made it: threads do not survive a fork.
    process: u32,
    handle: Handle,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub(crate) transport: Arc<Transport>,
}

impl Network {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system refuses a thread or a descriptor.
    pub(crate) fn start() -> Result<Network, Error> {
        let failed = |what: &str, error: io::Error| Error::Internal {
            reason: format!("{what}: {error}"),
        };
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .thread_keep_alive(BLOCKING_THREAD_KEEP_ALIVE)
            .thread_name("infinity-work")
            .build()
            .map_err(|error| failed("no runtime", error))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            let _ = runtime.block_on(stopped);
            // Not waiting for a decoder that is still at work.
            runtime.shutdown_background();
        };
        let builder = std::thread::Builder::new().name("infinity-net".into());
        let thread = with_signals_blocked(|| builder.spawn(serve))
            .map_err(|error| failed("no thread", error))?;
        Ok(Network {
            process: std::process::id(),
            handle,
            stop: Some(stop),
            thread: Some(thread),
            transport: Arc::new(Transport::new()),
        })
    }

    /// Whether this process made it and its thread still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.process == std::process::id()
            && self
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
    }

    /// Whether another process made it; such a one must not even be dropped (see [`Network::drop`]).
    pub(crate) fn is_inherited(&self) -> bool {
        self.process != std::process::id()
    }

    /// As a forked child would find it.
    #[cfg(test)]
    pub(crate) fn pretend_inherited(&mut self) {
        self.process = 0;
    }

    /// Runs `work` on the network thread while the calling thread sits in `wait`.
    ///
    /// # Errors
    /// [`Error::Internal`] when the work panicked or the thread is gone.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        wait: &mut dyn Wait,
    ) -> Result<T, Error> {
        let (doorbell, button) = UnixStream::pair().map_err(|error| Error::Internal {
            reason: format!("no doorbell: {error}"),
        })?;
        let (sender, receiver) = mpsc::channel();
        let task = self.handle.spawn(async move {
            // Locals go in reverse: the sender first, then the button, so that the bell never rings too early.
            let _button = button;
            let sender = sender;
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let _ = sender.send(result.map_err(|panic| panic_message(&*panic)));
        });
        let _guard = AbortOnDrop(task.abort_handle());
        loop {
            match receiver.try_recv() {
                Ok(result) => return result.map_err(|reason| Error::Internal { reason }),
                Err(TryRecvError::Disconnected) => {
                    return Err(Error::Internal {
                        reason: String::from("the network thread ended"),
                    });
                }
                Err(TryRecvError::Empty) => wait.wait(doorbell.as_fd()),
            }
        }
    }
}

impl Drop for Network {
    /// Ends the thread. Never run in a forked child: its copies of the descriptors still belong to the parent's
    /// runtime, and closing a socket here would take it out of the parent's epoll set.
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Ends the task when the caller leaves, whether it returns or unwinds.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `make` with every signal blocked, so that the thread it makes, and all that thread makes, inherit the mask and
/// the process's signals reach its main thread only.
fn with_signals_blocked<T>(make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let made = make();
    before.thread_set_mask()?;
    made
}

/// Runs what blocks on one of the network thread's workers. A panic there comes back as what it said.
pub(crate) async fn on_worker<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| {
        error
            .try_into_panic()
            .map_or_else(|_| "stopped".into(), |panic| panic_message(&*panic))
    })
}

/// What a panic said.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    crate::error::one_line(text.unwrap_or("panic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_the_one_thread_with_every_signal_blocked() {
        let network = Network::start().unwrap();
        let masks = async {
            let here = SigSet::thread_get_mask().unwrap();
            let worker = on_worker(|| SigSet::thread_get_mask().unwrap())
                .await
                .unwrap();
            let name = std::thread::current().name().map(str::to_owned);
            (here, worker, name)
        };
        let before = SigSet::thread_get_mask().unwrap();
        let (here, worker, name) = network.run(masks, &mut BlockingWait).unwrap();
        assert_eq!(name.as_deref(), Some("infinity-net"));
        for signal in SigSet::all().iter() {
            use nix::sys::signal::Signal::{SIGKILL, SIGSTOP};
            let blockable = !matches!(signal, SIGKILL | SIGSTOP);
            assert_eq!(
                (here.contains(signal), worker.contains(signal)),
                (blockable, blockable),
                "{signal}"
            );
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }

    #[test]
    fn a_panic_on_the_network_thread_is_an_error_and_the_next_call_works() {
        let network = Network::start().unwrap();
        for _ in 0..3 {
            let result = network.run(async { panic!("boom {}", 7) }, &mut BlockingWait);
            assert_eq!(
                result,
                Err::<(), _>(Error::Internal {
                    reason: "boom 7".into()
                })
            );
            assert_eq!(network.run(async { 5 }, &mut BlockingWait), Ok(5));
        }
        assert!(network.is_alive());
    }

    #[test]
    fn a_panic_in_a_decoder_is_an_error_and_the_next_image_is_decoded() {
        let network = Network::start().unwrap();
        let work = async {
            let failed = on_worker(|| -> u8 { panic!("bad tables") }).await;
            (failed, on_worker(|| 7).await)
        };
        let (failed, next) = network.run(work, &mut BlockingWait).unwrap();
        assert_eq!((failed, next), (Err("bad tables".into()), Ok(7)));
    }

    #[test]
    fn a_dead_thread_is_noticed() {
        let mut network = Network::start().unwrap();
        network.stop.take();
        let gone = network.thread.as_ref().unwrap();
        while !gone.is_finished() {
            std::thread::yield_now();
        }
        assert!(!network.is_alive());
        assert!(matches!(
            network.run(async {}, &mut BlockingWait),
            Err(Error::Internal { .. })
        ));
    }

    #[test]
    fn a_spurious_return_of_wait_does_no_harm() {
        struct Impatient(u32);
        impl Wait for Impatient {
            fn wait(&mut self, _: BorrowedFd<'_>) {
                self.0 += 1;
                std::thread::yield_now();
            }
        }
        let mut wait = Impatient(0);
        let network = Network::start().unwrap();
        let slow = tokio::time::sleep;
        let result = network.run(
            async move { slow(Duration::from_millis(20)).await },
            &mut wait,
        );
        assert!(result.is_ok() && wait.0 > 1);
    }
}
