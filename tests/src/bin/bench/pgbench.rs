//! Clients that write one row a transaction, through the server's own pgbench.

use super::scene::Bench;
use autoembed_tests::Cluster;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What a client does in each transaction.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// A row into the table `docs`.
    Docs,
    /// The same, and its key into the table `outbox`, in the same statement.
    Outbox,
    /// A row into the table `bystander`, which has nothing to do with the extension.
    Bystander,
}

impl Script {
    fn sql(self) -> String {
        let table = match self {
            Script::Docs | Script::Outbox => "docs",
            Script::Bystander => "bystander",
        };
        let insert = format!("INSERT INTO {table} (body) VALUES ('message ' || :n || ': {}')", super::scene::WORDS);
        let insert = match self {
            Script::Outbox => super::scene::with_outbox(&insert),
            Script::Docs | Script::Bystander => insert,
        };
        format!("\\set n random(1, 1000000000000)\n{insert};\n")
    }
}

/// A load that goes on until it is dropped.
pub struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(cluster: &Cluster, database: &str, script: Script, clients: usize) -> Result<Command, String> {
    let file = cluster.socket_dir().join(format!("{script:?}.sql"));
    std::fs::write(&file, script.sql()).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut pgbench = cluster.tool("pgbench");
    pgbench.args(["--no-vacuum", "--protocol=prepared", "--jobs=1"]).arg(format!("--client={clients}"));
    pgbench.arg(format!("--file={}", file.display())).stdout(Stdio::piped()).stderr(Stdio::piped());
    pgbench.arg(database);
    Ok(pgbench)
}

/// Transactions a second of so many clients. Errors: pgbench's, or the run was interrupted.
pub fn rate(
    bench: &Bench,
    database: &str,
    script: Script,
    clients: usize,
    durable: bool,
    time: Duration,
) -> Result<f64, String> {
    let mut pgbench = command(&bench.cluster, database, script, clients)?;
    pgbench.arg(format!("--time={}", time.as_secs().max(1)));
    if !durable {
        pgbench.env("PGOPTIONS", "-c synchronous_commit=off");
    }
    let child = pgbench.spawn().map_err(|e| format!("pgbench: {e}"))?;
    // It ends by itself in its time; the server ends its sessions where the run is interrupted.
    let output = child.wait_with_output().map_err(|e| format!("pgbench: {e}"))?;
    bench.check()?;
    let said = String::from_utf8_lossy(&output.stdout);
    match tps(&said) {
        Some(rate) if output.status.success() => Ok(rate),
        _ => Err(format!("pgbench: {}{said}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// A load of so many rows a second in the background.
pub fn load(bench: &Bench, database: &str, script: Script, clients: usize, rate: usize) -> Result<Load, String> {
    let mut pgbench = command(&bench.cluster, database, script, clients)?;
    pgbench.arg(format!("--rate={rate}")).arg("--time=3600").stdout(Stdio::null()).stderr(Stdio::null());
    pgbench.spawn().map(Load).map_err(|e| format!("pgbench: {e}"))
}

fn tps(said: &str) -> Option<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read() {
        let said = "pgbench (15.20)\nnumber of clients: 8\ntps = 1234.567890 (without initial connection time)\n";
        assert_eq!((tps(said), tps("number of clients: 8")), (Some(1234.56789), None));
    }

    #[test]
    fn quotes_are_closed() {
        for script in [Script::Docs, Script::Outbox, Script::Bystander] {
            assert_eq!(script.sql().matches('\'').count() % 2, 0);
        }
    }
}
