//! A second server that is made of a first one: its standby, or what pg_upgrade makes of it.

use crate::cluster::Cluster;
use crate::find;
use crate::template::{self, Folder};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::cluster::Stop;

impl Cluster {
    /// A hot standby that follows this server, in a folder of its own. Panics with the reason where it does not come up.
    #[must_use]
    pub fn standby(&self) -> Cluster {
        self.try_standby().unwrap_or_else(|e| panic!("{e}"))
    }

    fn try_standby(&self) -> io::Result<Cluster> {
        let folder = Folder::new(&self.account)?;
        let standby = Cluster {
            environment: self.environment.clone(),
            bindir: self.bindir.clone(),
            account: self.account,
            child: Mutex::new(None),
            crash_expected: AtomicBool::new(false),
            folder,
            // Two servers of one test are one in the count: or two tests could wait for each other's.
            _permit: None,
        };
        find::run(
            self.tool("pg_basebackup")
                .args(["--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync", "--pgdata"])
                .arg(standby.data()),
        )?;
        let socket = standby.socket_dir().display();
        writeln!(
            OpenOptions::new().append(true).open(standby.data().join("postgresql.conf"))?,
            "unix_socket_directories = '{socket}'"
        )?;
        standby.launch()?;
        Ok(standby)
    }

    /// Ends the recovery of a standby. Panics when it does not within a minute.
    pub fn promote(&self) {
        assert!(
            self.client("postgres").yes("SELECT pg_promote(true, 60)"),
            "not promoted; log:\n{}",
            self.log_tail(20)
        );
    }

    /// Stops the server, has pg_upgrade make a new one of it, of the same version or of the one whose programs are in `newer`, and starts
    /// that in its place. Gives how long pg_upgrade took, and what the servers that it ran have logged. Panics with what it wrote where it
    /// fails.
    pub fn upgrade(&mut self, newer: Option<PathBuf>) -> (Duration, String) {
        self.try_upgrade(newer).unwrap_or_else(|e| panic!("{e}"))
    }

    fn try_upgrade(&mut self, newer: Option<PathBuf>) -> io::Result<(Duration, String)> {
        self.stop(Stop::Fast);
        let (data, new) = (self.data(), self.socket_dir().join("new"));
        let old_programs = self.bindir.clone();
        if let Some(programs) = newer {
            self.bindir = programs;
        }
        // A copy of the template would have the system identifier that the old server has.
        template::init(&self.bindir, &new, &self.account, false)?;
        std::fs::copy(data.join("postgresql.conf"), new.join("postgresql.conf"))?;
        let start = std::time::Instant::now();
        let mut upgrade = self.tool("pg_upgrade");
        // It writes into the present folder, and asks the environment for nothing.
        upgrade.current_dir(self.socket_dir()).env_remove("PGHOST");
        upgrade.arg("-b").arg(old_programs).arg("-B").arg(&self.bindir).arg("-d").arg(&data).arg("-D").arg(&new);
        find::run(upgrade.arg("-s").arg(self.socket_dir()).args(["--username=postgres", "--no-sync", "--retain"]))?;
        let took = start.elapsed();
        let mut log = String::new();
        for run in std::fs::read_dir(new.join("pg_upgrade_output.d"))? {
            log += &String::from_utf8_lossy(&std::fs::read(run?.path().join("log/pg_upgrade_server.log"))?);
        }
        std::fs::rename(&data, self.socket_dir().join("old"))?;
        std::fs::rename(&new, &data)?;
        self.launch()?;
        Ok((took, log))
    }
}
