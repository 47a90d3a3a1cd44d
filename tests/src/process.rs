//! What a process of the server takes of the machine, from /proc.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of a process's own memory: not the server's shared buffers, not files. `None`: there is no such process.
#[must_use]
pub fn own_memory(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// The most memory of its own that a process had, looked at every two milliseconds.
pub struct Peak {
    pid: i32,
    seen: Arc<(AtomicU64, AtomicBool)>,
    watcher: Option<JoinHandle<()>>,
}

impl Peak {
    /// Begins to watch.
    #[must_use]
    pub fn of(pid: i32) -> Peak {
        let seen = Arc::new((AtomicU64::new(own_memory(pid).unwrap_or(0)), AtomicBool::new(false)));
        let theirs = Arc::clone(&seen);
        let watcher = std::thread::spawn(move || {
            while !theirs.1.load(Ordering::Relaxed) {
                theirs.0.fetch_max(own_memory(pid).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Peak { pid, seen, watcher: Some(watcher) }
    }

    /// Bytes at the peak until now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.seen.0.load(Ordering::Relaxed)
    }

    /// Bytes now.
    #[must_use]
    pub fn now(&self) -> u64 {
        own_memory(self.pid).unwrap_or(0)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.seen.1.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_for_a_moment_is_seen() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let peak = Peak::of(pid);
        let before = peak.now();
        let block = vec![1_u8; 64 << 20];
        crate::eventually("the block is seen", Duration::from_secs(10), || {
            if peak.bytes() > before + (60 << 20) { Ok(()) } else { Err(format!("{} bytes", peak.bytes())) }
        });
        drop(block);
        assert_eq!(own_memory(0), None);
    }
}
