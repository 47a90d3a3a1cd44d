//! A fresh data directory in a moment: `initdb` runs once a process, every cluster starts from a copy.

use crate::find::{self, Account};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A temporary folder that is gone when this process is, however it ends: a small shell waits for the end of a pipe
/// that only this process holds, stops a server that still runs in the folder, and removes it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    watcher: Option<Child>,
}

/// Waits for the pipe's end, then ends what `$1/data/postmaster.pid` names and removes `$1`.
const WATCHER: &str = r#"
while read -r line; do :; done
if [ -f "$1/data/postmaster.pid" ]; then
    read -r pid < "$1/data/postmaster.pid"
    kill -QUIT "$pid" 2>/dev/null
    tries=0
    while [ $tries -lt 50 ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; tries=$((tries + 1)); done
fi
rm -rf "$1"
"#;

/// Longest folder name that leaves room for `/.s.PGSQL.5432` in the 107 bytes a socket's address may have.
const LONGEST: usize = 80;

impl Folder {
    /// A new folder that belongs to `account`, under the temporary folder (or /tmp where that name is too long for a socket).
    pub fn new(account: &Account) -> io::Result<Folder> {
        let mut parent = std::env::temp_dir();
        if parent.as_os_str().len() + 12 > LONGEST {
            parent = PathBuf::from("/tmp");
        }
        let path = tempfile::Builder::new().prefix("ae-").tempdir_in(parent)?.keep();
        let watcher = Command::new("/bin/sh")
            .args(["-c", WATCHER, "autoembed-watcher"])
            .arg(&path)
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            // Its own group: a Ctrl-C at the terminal must not reach it before its work is done.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let folder = Folder { path, watcher: Some(watcher?) };
        if account.switched {
            std::os::unix::fs::chown(&folder.path, Some(account.uid), Some(account.gid))?;
        }
        Ok(folder)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            drop(watcher.stdin.take());
            // The watcher does the removing; its end means that nothing is left.
            let _ = watcher.wait();
        }
    }
}

/// Fills `data` with a new cluster's data directory owned by `account`.
///
/// The superuser is `postgres`, authentication is `trust` (the only way in is a socket in a private folder), encoding
/// UTF-8, locale C.UTF-8. WAL files are small, so that a folder is copied in a moment, or where `ordinary` as large as everywhere: what
/// is measured pays for each file.
pub fn copy_to(data: &Path, account: &Account, ordinary: bool) -> io::Result<()> {
    static TEMPLATES: [OnceLock<Result<Folder, String>>; 2] = [const { OnceLock::new() }; 2];
    let template =
        TEMPLATES[usize::from(ordinary)].get_or_init(|| create(account, ordinary).map_err(|e| e.to_string()));
    let template = template.as_ref().map_err(|e| io::Error::other(e.clone()))?;
    find::run(
        find::command("/bin/cp", account)
            .args(["-a", "--reflink=auto"])
            .arg(template.path().join("template"))
            .arg(data),
    )?;
    Ok(())
}

fn create(account: &Account, ordinary: bool) -> io::Result<Folder> {
    let folder = Folder::new(account)?;
    init(&find::bindir()?, &folder.path().join("template"), account, ordinary)?;
    Ok(folder)
}

/// Has `initdb` of the server in `bindir` make the data directory that [`copy_to`] copies.
pub fn init(bindir: &Path, data: &Path, account: &Account, ordinary: bool) -> io::Result<()> {
    let initdb = bindir.join("initdb");
    let mut command = find::command(&initdb, account);
    command.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]);
    command.arg(if ordinary { "--wal-segsize=16" } else { "--wal-segsize=1" });
    // From 18 on pages have checksums unless told otherwise, and pg_upgrade wants both servers alike.
    if find::run(find::command(&initdb, account).arg("--help"))?.contains("--no-data-checksums") {
        command.arg("--no-data-checksums");
    }
    find::run(command.arg("--pgdata").arg(data)).map(drop)
}
