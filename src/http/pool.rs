//! Threads that wait, so that nobody else has to.
//!
//! A [`Pool`] belongs to one thread, its owner: it submits jobs and receives their results. A job's result is put where
//! the owner finds it first, and the owner is woken then, so no result is overlooked. The threads have every signal
//! blocked from their first instruction: signals are the owner's.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow};

/// Name of the threads, as `ps -T` shows it.
pub const THREAD_NAME: &str = "autoembed-http";

/// TLS and the parsing of an answer need a fraction of this.
const STACK: usize = 512 * 1024;

/// A job that brought no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked(
    /// What it said.
    pub String,
);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a request's thread failed: {}", self.0)
    }
}

impl std::error::Error for Panicked {}

type Job<T> = Box<dyn FnOnce() -> T + Send>;

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    work: Condvar,
    wake: Arc<dyn Fn() + Send + Sync>,
}

struct Queue<T> {
    jobs: VecDeque<Job<T>>,
    threads: usize,
    idle: usize,
    max_threads: usize,
    closed: bool,
}

impl<T> Shared<T> {
    // Nothing that can panic runs while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads for blocking jobs. Dropping it does not wait: a running job ends when it ends, its result goes nowhere, and
/// jobs that no thread has begun are dropped.
pub struct Pool<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    sender: Sender<Result<T, Panicked>>,
    receiver: Receiver<Result<T, Panicked>>,
    in_flight: Cell<usize>,
}

impl<T: Send + 'static> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("in_flight", &self.in_flight.get()).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Pool<T> {
    /// A pool of at most `max_threads` threads (at least one), none of them started yet. `wake` is called from those
    /// threads, once for each result, after the result can be received.
    #[must_use]
    pub fn new(max_threads: usize, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let (sender, receiver) = channel();
        let queue =
            Queue { jobs: VecDeque::new(), threads: 0, idle: 0, max_threads: max_threads.max(1), closed: false };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), work: Condvar::new(), wake });
        Self { shared, sender, receiver, in_flight: Cell::new(0) }
    }

    /// Has `job` run on a thread, as soon as one is free. Its result, or its panic, can be received later.
    ///
    /// If no thread at all can be started, the job is dropped and that is its result.
    pub fn submit(&self, job: impl FnOnce() -> T + Send + 'static) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.shared.lock().jobs.push_back(Box::new(job));
        self.start_threads();
        self.shared.work.notify_one();
    }

    /// The next result, in the order in which jobs ended; `None` if there is none yet.
    #[must_use]
    pub fn try_recv(&self) -> Option<Result<T, Panicked>> {
        let result = self.receiver.try_recv().ok()?;
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        Some(result)
    }

    /// Jobs submitted whose results have not been received: waiting, running, or ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Allows at most `max_threads` threads (at least one) from now on; those beyond end after their present job.
    pub fn resize(&self, max_threads: usize) {
        self.shared.lock().max_threads = max_threads.max(1);
        self.start_threads();
        self.shared.work.notify_all();
    }

    /// Starts threads while jobs wait for one and the limit allows it.
    fn start_threads(&self) {
        loop {
            {
                let mut queue = self.shared.lock();
                if queue.jobs.len() <= queue.idle || queue.threads >= queue.max_threads {
                    return;
                }
                // A new thread counts as idle until it takes its first job.
                queue.threads += 1;
                queue.idle += 1;
            }
            if let Err(error) = start(&self.shared, &self.sender) {
                let mut queue = self.shared.lock();
                queue.threads -= 1;
                queue.idle -= 1;
                // With other threads there, the jobs only wait a little longer.
                let orphans = if queue.threads == 0 { std::mem::take(&mut queue.jobs) } else { VecDeque::new() };
                drop(queue);
                for _ in orphans {
                    let _ = self.sender.send(Err(Panicked(format!("no thread can be started: {error}"))));
                    (self.shared.wake)();
                }
                return;
            }
        }
    }
}

impl<T: Send + 'static> Drop for Pool<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        // Dropped after the lock is released: they may hold anything.
        let jobs = std::mem::take(&mut queue.jobs);
        drop(queue);
        drop(jobs);
        self.shared.work.notify_all();
    }
}

/// Puts the owner's own signals back, whatever happens.
struct Restore(SigSet);

impl Drop for Restore {
    fn drop(&mut self) {
        // It was this thread's mask before, so it is a valid one.
        let _ = self.0.thread_set_mask();
    }
}

fn start<T: Send + 'static>(shared: &Arc<Shared<T>>, sender: &Sender<Result<T, Panicked>>) -> io::Result<()> {
    let (shared, sender) = (Arc::clone(shared), sender.clone());
    let _restore = Restore(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?);
    thread::Builder::new().name(THREAD_NAME.to_owned()).stack_size(STACK).spawn(move || run(&shared, &sender))?;
    Ok(())
}

fn run<T>(shared: &Shared<T>, results: &Sender<Result<T, Panicked>>) {
    while let Some(job) = next(shared) {
        let result = catch_unwind(AssertUnwindSafe(job)).map_err(|panic| Panicked(said(panic.as_ref())));
        // Without a pool there is nobody to wake.
        let delivered = results.send(result).is_ok();
        if delivered {
            let _ = catch_unwind(AssertUnwindSafe(|| (shared.wake)()));
        }
        shared.lock().idle += 1;
    }
}

/// The next job for an idle thread; `None` if the thread is not needed any more, and then it is not counted either.
fn next<T>(shared: &Shared<T>) -> Option<Job<T>> {
    let mut queue = shared.lock();
    loop {
        if queue.closed || queue.threads > queue.max_threads {
            queue.threads -= 1;
            queue.idle -= 1;
            // This one may have been called for a job that it leaves to another.
            shared.work.notify_one();
            return None;
        }
        if let Some(job) = queue.jobs.pop_front() {
            queue.idle -= 1;
            return Some(job);
        }
        queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
