use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autoembed_http::pool::{Panicked, Pool, THREAD_NAME};
use nix::sys::signal::{SigSet, Signal};

/// Longer than anything here takes; a test that waits for it has failed.
const NEVER: Duration = Duration::from_secs(30);

/// A pool, and a channel that receives whenever it wakes its owner.
fn pool<T: Send>(threads: usize) -> (Pool<T>, Receiver<()>) {
    let (sender, woken) = channel();
    let sender = Mutex::new(sender);
    (
        Pool::new(
            threads,
            Arc::new(move || {
                let _ = sender.lock().unwrap().send(());
            }),
        ),
        woken,
    )
}

#[test]
fn every_result_comes_once_and_wakes_after_it_is_there() {
    let (pool, woken) = pool(4);
    assert!(pool.try_recv().is_none());
    for i in 0..500 {
        pool.submit(move || i);
    }
    let mut results = Vec::new();
    while results.len() < 500 {
        assert_eq!(pool.in_flight(), 500 - results.len());
        woken.recv_timeout(NEVER).unwrap();
        results.push(pool.try_recv().expect("woken without a result").unwrap());
    }
    results.sort_unstable();
    assert_eq!(results, (0..500).collect::<Vec<_>>());
    assert_eq!(pool.in_flight(), 0);
    assert!(pool.try_recv().is_none() && woken.try_recv().is_err());
}

#[test]
fn a_panic_is_a_result_and_its_thread_goes_on() {
    let (pool, woken) = pool::<u8>(1);
    pool.submit(|| panic!("plain"));
    pool.submit(|| panic!("{} {}", "with", 1));
    pool.submit(|| std::panic::panic_any(7));
    pool.submit(|| 8);
    let results: Vec<_> = (0..4)
        .map(|_| {
            woken.recv_timeout(NEVER).unwrap();
            pool.try_recv().unwrap()
        })
        .collect();
    let panicked = |text: &str| Err(Panicked(text.to_owned()));
    assert_eq!(results, [panicked("plain"), panicked("with 1"), panicked("no message"), Ok(8)]);
}

#[test]
fn a_wake_that_panics_loses_nothing() {
    let pool = Pool::new(1, Arc::new(|| panic!("wake")));
    let (sender, done) = channel();
    pool.submit(|| 1);
    pool.submit(move || {
        sender.send(()).unwrap();
        2
    });
    done.recv_timeout(NEVER).unwrap();
    assert_eq!(pool.try_recv(), Some(Ok(1)));
}

/// Submits jobs that hold until released, and says how many run at once.
struct Held {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    begun: Receiver<()>,
    release: Vec<mpsc::Sender<()>>,
}

fn hold(pool: &Pool<()>, jobs: usize) -> Held {
    let (begin, begun) = channel();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let release = (0..jobs)
        .map(|_| {
            let (release, released) = channel::<()>();
            let (begin, running, most) = (begin.clone(), running.clone(), most.clone());
            pool.submit(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                begin.send(()).unwrap();
                let _ = released.recv();
                running.fetch_sub(1, Ordering::SeqCst);
            });
            release
        })
        .collect();
    Held { running, most, begun, release }
}

#[test]
fn as_many_at_once_as_allowed_and_no_more() {
    let (pool, woken) = pool(3);
    let held = hold(&pool, 10);
    for _ in 0..3 {
        held.begun.recv_timeout(NEVER).unwrap();
    }
    assert!(held.begun.try_recv().is_err());
    pool.resize(5);
    for _ in 0..2 {
        held.begun.recv_timeout(NEVER).unwrap();
    }
    pool.resize(1);
    // Of the five that run none may be replaced until one is left.
    for release in &held.release[..4] {
        release.send(()).unwrap();
        woken.recv_timeout(NEVER).unwrap();
    }
    assert!(held.begun.try_recv().is_err(), "{} running", held.running.load(Ordering::SeqCst));
    drop(held.release);
    for _ in 0..5 {
        held.begun.recv_timeout(NEVER).unwrap();
        woken.recv_timeout(NEVER).unwrap();
    }
    assert_eq!(held.most.load(Ordering::SeqCst), 5);
}

#[test]
fn dropping_does_not_wait_and_drops_what_has_not_begun() {
    struct Noticed(Arc<AtomicBool>);
    impl Drop for Noticed {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (pool, woken) = pool(1);
    let held = hold(&pool, 1);
    held.begun.recv_timeout(NEVER).unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    let noticed = Noticed(dropped.clone());
    pool.submit(move || drop(noticed));
    drop(pool);
    assert!(dropped.load(Ordering::SeqCst));
    drop(held.release);
    // The last thread takes the waker with it, without having used it.
    assert_eq!(woken.recv_timeout(NEVER), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn threads_block_every_signal_and_the_owner_keeps_its_own() {
    let owner = std::thread::spawn(|| {
        let mut mine = SigSet::empty();
        mine.add(Signal::SIGUSR2);
        mine.thread_set_mask().unwrap();
        let (pool, woken) = pool(1);
        pool.submit(|| {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let nested = std::thread::spawn(|| SigSet::thread_get_mask().unwrap()).join().unwrap();
            (status, std::thread::current().name().map(str::to_owned), nested)
        });
        woken.recv_timeout(NEVER).unwrap();
        let (status, name, nested) = pool.try_recv().unwrap().unwrap();
        assert_eq!(name.as_deref(), Some(THREAD_NAME));
        assert!(status.contains(&format!("Name:\t{THREAD_NAME}\n")), "{status}");
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
        let blocked = u64::from_str_radix(blocked, 16).unwrap();
        for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
            assert!(blocked & (1 << (signal as i32 - 1)) != 0, "{signal} is not blocked");
            assert!(nested.contains(signal), "{signal} is not blocked in a thread of the thread");
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), mine);
    });
    owner.join().unwrap();
}
