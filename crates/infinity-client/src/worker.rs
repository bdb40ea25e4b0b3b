//! Work that blocks, on the network thread's workers. `embed` decodes images here.
//!
//! Not obvious: dropping a blocking task leaves it running, and aborting one helps only until it begins. So whoever waits
//! for the work holds a guard: when it goes, work that waits for a worker never starts, and work that has started finds
//! its [`Stop`] set.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::task::AbortHandle;

/// Tells work in progress that nobody waits for its result any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// # Errors
    /// When the work is to end. Not of the kind `Interrupted`, which readers and writers answer by trying again.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.0.load(Relaxed) {
            return Err(io::Error::other("nobody waits for the result any more"));
        }
        Ok(())
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Relaxed);
    }
}

/// Ends the work when nobody waits for it any more; work that is over does not mind.
struct StopOnDrop {
    stop: Stop,
    task: AbortHandle,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.stop.set();
        self.task.abort();
    }
}

/// Runs what blocks on one of the network thread's workers. A panic there comes back as what it said. Dropping the
/// future sets the [`Stop`] that `work` was given.
pub(crate) async fn on_worker<T: Send + 'static>(
    work: impl FnOnce(&Stop) -> T + Send + 'static,
) -> Result<T, String> {
    let stop = Stop::default();
    let seen = stop.clone();
    let task = tokio::task::spawn_blocking(move || work(&seen));
    let _guard = StopOnDrop {
        stop,
        task: task.abort_handle(),
    };
    task.await.map_err(|error| {
        error
            .try_into_panic()
            .map_or_else(|_| "stopped".into(), |panic| panic_message(&*panic))
    })
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    crate::error::one_line(text.unwrap_or("panic"))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::time::Duration;

    use futures_util::future::{join_all, select};

    use super::*;
    use crate::network::{BlockingWait, Network};

    const BOUND: Duration = Duration::from_secs(20);

    #[test]
    fn a_panic_in_a_decoder_is_an_error_and_the_next_image_is_decoded() {
        let network = Network::start().unwrap();
        let work = async {
            let failed = on_worker(|_| -> u8 { panic!("bad tables") }).await;
            (failed, on_worker(|_| 7).await)
        };
        let (failed, next) = network.run(work, &mut BlockingWait).unwrap();
        assert_eq!((failed, next), (Err("bad tables".into()), Ok(7)));
    }

    #[test]
    fn work_that_nobody_waits_for_stops_when_it_runs_and_never_starts_when_it_waits() {
        let network = Network::start().unwrap();
        let started = Arc::new(AtomicUsize::new(0));
        let (ended, ends) = mpsc::channel();
        let counted = started.clone();
        let call = async move {
            // Both workers are taken before the third work comes.
            let works = std::array::from_fn::<_, 3, _>(|_| {
                let (started, ended) = (counted.clone(), ended.clone());
                on_worker(move |stop| {
                    started.fetch_add(1, Relaxed);
                    while stop.check().is_ok() {
                        std::thread::yield_now();
                    }
                    ended.send(()).unwrap();
                })
            });
            let both_run = async {
                while counted.load(Relaxed) < 2 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            select(join_all(works), pin!(both_run)).await;
        };
        network.run(call, &mut BlockingWait).unwrap();
        for _ in 0..2 {
            ends.recv_timeout(BOUND).unwrap();
        }
        // Disconnected, once the third work is dropped.
        assert!(ends.recv_timeout(BOUND) == Err(RecvTimeoutError::Disconnected));
        assert_eq!(started.load(Relaxed), 2);
        let next = network.run(on_worker(|_| 7), &mut BlockingWait);
        assert_eq!(next, Ok(Ok(7)));
    }
}
