//! Killing processes of the server, and waiting for what must follow.

use super::ledger::Ledger;
use super::plan::Dice;
use super::scene::{self, DATABASE};
use autoembed_tests::{Cluster, Db};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// How long a server may take to notice the death of one of its processes.
const NOTICED: Duration = Duration::from_secs(30);
/// How long its processes may take to notice the death of the postmaster: what they have begun, and no more.
const OUTLIVES: Duration = Duration::from_secs(5);

/// Sends a signal; false: there is no such process any more.
pub fn send(pid: i32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid), signal) != Err(Errno::ESRCH)
}

/// A process of the server that `condition` on `pg_stat_activity` finds, chosen by chance where there are several.
pub fn find(db: &mut Db, condition: &str, dice: &mut Dice) -> Option<i32> {
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {condition} ORDER BY pid");
    let found = db.try_rows(&sql).ok()?;
    let pids: Vec<i32> = found.into_iter().flatten().flatten().filter_map(|pid| pid.parse().ok()).collect();
    if pids.is_empty() { None } else { Some(dice.pick(&pids)) }
}

/// The condition for the worker of the run's database.
pub fn worker() -> String {
    format!("backend_type = 'autoembed worker' AND datname = '{DATABASE}'")
}

/// kill -9 to what the condition finds, and the server's recovery. False: nothing was found.
pub fn kill9(cluster: &Cluster, ledger: &Ledger, condition: &str, dice: &mut Dice) -> Result<bool, String> {
    let mut witness = scene::session(cluster, "postgres")?;
    let Some(pid) = find(&mut witness, condition, dice) else { return Ok(false) };
    let _storm = ledger.breaking();
    if !send(pid, Signal::SIGKILL) {
        return Ok(false);
    }
    // After such a death the server ends every session: the witness's end says that it has begun.
    let begun = Instant::now();
    while witness.simple_query("").is_ok() {
        if begun.elapsed() > NOTICED {
            return Err(format!("the server did not notice the death of process {pid}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    scene::session(cluster, "postgres")?;
    Ok(true)
}

/// kill -9 to the postmaster; all others must end by themselves before the server can be started again.
pub fn kill_postmaster(cluster: &Cluster, ledger: &Ledger) {
    let _storm = ledger.breaking();
    let postmaster = cluster.postmaster_pid();
    // Stopped, it starts nobody who is not in the list.
    send(postmaster, Signal::SIGSTOP);
    let children = children(postmaster);
    send(postmaster, Signal::SIGKILL);
    let begun = Instant::now();
    for (pid, name) in children {
        while is_alive(pid) {
            if begun.elapsed() > NOTICED {
                send(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // The later ones were waited for together with this one.
        if begun.elapsed() > OUTLIVES {
            ledger.wrong(&format!("({name}) outlived the postmaster by {:.1} s", begun.elapsed().as_secs_f64()));
            break;
        }
    }
    // What the kernel has not yet cleaned up keeps the server from starting, as it would anybody.
    let begun = Instant::now();
    while let Err(e) = cluster.try_start_again() {
        assert!(begun.elapsed() < OUTLIVES, "{e}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// State and parent of a process.
fn stat(pid: i32) -> Option<(char, i32)> {
    stat_of(std::path::Path::new(&format!("/proc/{pid}")))
}

fn stat_of(folder: &std::path::Path) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // The name before them is in brackets and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether any thread of it is: the first one may be gone before the others are, and memory stays attached until then.
fn is_alive(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| stat_of(&thread.path()).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X')))
}

/// The processes that this one started, with what each is, in the server's words.
fn children(parent: i32) -> Vec<(i32, String)> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let title = |pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .map(|pid| (pid, title(pid).trim().to_owned()))
        .collect()
}
