//! Where a run was made: figures without their machine mean nothing.

use super::scene::Session;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Names and values; `busy` is what [`busy`] gave. Errors: the server's.
pub fn described(db: &mut Session, data: &Path, busy: f64) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut say = |name: &str, value: String| all.push((name.to_owned(), value));
    say("commit", commit());
    say("CPU", format!("{}, {} cores", cpu(&read("/proc/cpuinfo")), cores()));
    say("memory", memory(&read("/proc/meminfo")));
    say("kernel", format!("{} {}", read("/proc/sys/kernel/ostype").trim(), read("/proc/sys/kernel/osrelease").trim()));
    say("file system of the server's data", file_system(&read("/proc/self/mounts"), data));
    say("others' work before the run", busy_in_words(busy));
    let version = "SELECT current_setting('server_version') || ', pgvector ' || default_version FROM pg_available_extensions \
         WHERE name = 'vector'";
    say("PostgreSQL", db.text(version)?);
    let settings = "SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings WHERE name IN \
         ('shared_buffers', 'max_wal_size', 'fsync', 'full_page_writes', 'synchronous_commit', 'checkpoint_timeout', \
          'maintenance_work_mem', 'autovacuum', 'wal_segment_size')";
    say("its settings", db.text(settings)?);
    let own = "SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings \
         WHERE name IN ('autoembed.batch_delay', 'autoembed.max_concurrent_requests', 'autoembed.cache_size')";
    say("of the extension", db.text(own)?);
    Ok(all)
}

/// How many processors this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory that the machine has; 0 where it does not say.
pub fn memory_bytes() -> u64 {
    kilobytes(&read("/proc/meminfo")) * 1024
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let run = Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok();
        run.filter(|run| run.status.success()).map(|run| String::from_utf8_lossy(&run.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    // What a run writes is no change of what it measures.
    match git(&["status", "--porcelain", "--", ":(top)", ":(top,exclude)docs"]).as_deref() {
        Some("") => hash,
        _ => format!("{hash}, with changes"),
    }
}

/// Looks for two seconds, in which this program sleeps, how much of the processors others use: from 0 to 1.
pub fn busy() -> f64 {
    let before = read("/proc/stat");
    std::thread::sleep(Duration::from_secs(2));
    busy_between(&before, &read("/proc/stat"))
}

fn busy_between(before: &str, after: &str) -> f64 {
    // user nice system idle iowait irq softirq steal, in ticks of all processors; what a guest uses is in the first two once more.
    let ticks = |stat: &str| -> Vec<f64> {
        let line = stat.lines().next().unwrap_or_default();
        line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect()
    };
    let passed: Vec<f64> = ticks(after).iter().zip(ticks(before)).map(|(after, before)| after - before).collect();
    let (all, idle) = (passed.iter().sum::<f64>(), passed.iter().skip(3).take(2).sum::<f64>());
    if all > 0.0 { 1.0 - idle / all } else { 0.0 }
}

fn busy_in_words(share: f64) -> String {
    let warning = if share > 0.1 { ": **the machine was not quiet, the figures are not to be relied on**" } else { "" };
    format!("{:.0} % of the processors{warning}", share * 100.0)
}

fn cpu(cpuinfo: &str) -> String {
    let value = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    value("model name")
        .or_else(|| value("CPU part").map(|part| format!("part {part}")))
        .unwrap_or_else(|| "unknown".into())
}

fn kilobytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}

fn memory(meminfo: &str) -> String {
    format!("{:.1} GB", kilobytes(meminfo) as f64 / 1_048_576.0)
}

/// The file system that holds a path: the longest mount point above it, the last of several there.
fn file_system(mounts: &str, path: &Path) -> String {
    let fields = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?))
    });
    let above = fields.filter(|(_, point, _)| path.starts_with(point));
    let found = above.max_by_key(|(_, point, _)| point.len());
    found.map_or_else(|| "unknown".into(), |(device, _, kind)| format!("{kind} on {device}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(cpu("processor\t: 0\nmodel name\t: Fast (R) 1\nmodel name\t: Fast (R) 1\n"), "Fast (R) 1");
        assert_eq!(cpu(""), "unknown");
        let (before, after) = ("cpu  100 0 100 1000 50 0 0 0 7 7\n", "cpu  120 0 110 1060 60 0 0 0 9 9\ncpu0 1 2 3\n");
        assert!((busy_between(before, after) - 0.3).abs() < 1e-9 && busy_between("", "") == 0.0);
        assert_eq!(busy_in_words(0.02), "2 % of the processors");
        assert!(busy_in_words(0.3).contains("not quiet"));
        assert_eq!(memory("MemTotal:       16777216 kB\nMemFree: 1 kB\n"), "16.0 GB");
        let mounts = "/dev/a / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/b /tmp xfs rw 0 0\n/dev/c /tm zfs rw 0 0\n";
        let of = |path: &str| file_system(mounts, Path::new(path));
        assert_eq!(
            (of("/tmp/x"), of("/tmpx"), of("/t")),
            ("xfs on /dev/b".into(), "ext4 on /dev/a".into(), "ext4 on /dev/a".into())
        );
    }
}
