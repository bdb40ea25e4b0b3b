//! Running independent tasks on several threads while the calling thread goes on polling.
//!
//! The poll may unwind: that is how PostgreSQL cancels. Then the threads are told to stop, and joined by the scope they
//! live in. With one thread nothing is spawned, and the poll is called in between steps of the work. Threads have every
//! signal blocked: a process's signals are for its main thread, where PostgreSQL's handlers belong.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};

/// The calling thread unwinds: drop everything.
#[derive(Debug)]
pub(crate) struct Stopped;

/// To be called at least every few milliseconds by whoever works.
pub(crate) type Check<'a> = dyn FnMut() -> Result<(), Stopped> + 'a;

/// How long the calling thread waits between polls.
const PATIENCE: Duration = Duration::from_millis(4);

/// Work that runs on the calling thread alone.
pub(crate) fn alone<T>(
    poll: &mut dyn FnMut(),
    work: impl FnOnce(&mut Check) -> Result<T, Stopped>,
) -> T {
    let mut check = || {
        poll();
        Ok(())
    };
    work(&mut check).expect("only other threads are ever stopped")
}

/// The results of `work` for every number below `tasks`, in order.
pub(crate) fn run<T: Send>(
    threads: usize,
    tasks: usize,
    work: &(dyn Fn(usize, &mut Check) -> Result<T, Stopped> + Sync),
    poll: &mut dyn FnMut(),
) -> Vec<T> {
    if threads.min(tasks) <= 1 {
        return alone(poll, |check| {
            (0..tasks).map(|task| work(task, check)).collect()
        });
    }
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut results: Vec<Option<T>> = (0..tasks).map(|_| None).collect();
    let mut spawned = 0;
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        for _ in 0..threads.min(tasks) {
            let (sender, stop, next) = (sender.clone(), &stop, &next);
            let thread = spawn(scope, move || {
                let mut check = || match stop.load(Ordering::Relaxed) {
                    true => Err(Stopped),
                    false => Ok(()),
                };
                loop {
                    let task = next.fetch_add(1, Ordering::Relaxed);
                    if task >= tasks {
                        return;
                    }
                    let Ok(result) = check().and_then(|()| work(task, &mut check)) else {
                        return;
                    };
                    if sender.send((task, result)).is_err() {
                        return;
                    }
                }
            });
            spawned += usize::from(thread.is_ok());
        }
        drop(sender);
        let _stop = StopOnDrop(&stop);
        loop {
            poll();
            match receiver.recv_timeout(PATIENCE) {
                Ok((task, result)) => results[task] = Some(result),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    if spawned == 0 {
        // The system has no thread to give.
        return run(1, tasks, work, poll);
    }
    results
        .into_iter()
        .map(|result| result.expect("a scope whose thread panicked panics itself"))
        .collect()
}

/// Starts a thread that no signal reaches: it inherits the mask.
fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) -> std::io::Result<ScopedJoinHandle<'scope, ()>> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let thread = Builder::new().spawn_scoped(scope, work);
    before.thread_set_mask()?;
    thread
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn no_signal_reaches_a_thread_and_the_callers_mask_stays() {
        let before = SigSet::thread_get_mask().unwrap();
        let blocked = run(
            2,
            8,
            &|_, _| Ok(SigSet::thread_get_mask().unwrap()),
            &mut || (),
        );
        for mask in blocked {
            for signal in nix::sys::signal::Signal::iterator() {
                use nix::sys::signal::Signal::{SIGKILL, SIGSTOP};
                if ![SIGKILL, SIGSTOP].contains(&signal) {
                    assert!(mask.contains(signal), "{signal} would reach a thread");
                }
            }
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }

    #[test]
    fn results_come_in_order_whatever_the_number_of_threads() {
        for threads in [0, 1, 2, 7] {
            for tasks in [0, 1, 2, 100] {
                let squares = run(threads, tasks, &|task, _| Ok(task * task), &mut || ());
                assert_eq!(
                    squares,
                    (0..tasks).map(|task| task * task).collect::<Vec<_>>()
                );
            }
        }
    }

    #[test]
    fn a_poll_that_unwinds_stops_work_that_would_never_end() {
        for threads in [1, 3] {
            let mut polls = 0;
            let endless = |_: usize, check: &mut Check| -> Result<(), Stopped> {
                loop {
                    check()?;
                }
            };
            let mut poll = || {
                polls += 1;
                assert!(polls < 3, "cancelled");
            };
            let result = catch_unwind(AssertUnwindSafe(|| run(threads, 5, &endless, &mut poll)));
            assert!(result.is_err());
        }
    }
}
