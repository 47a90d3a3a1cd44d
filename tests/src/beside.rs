//! Programs of others that run beside a server: a pooler, an exporter of metrics.

use crate::cluster::Cluster;
use crate::find;
use crate::wait::{eventually, seconds};
use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Child;

/// A program of the folder that `make test` fills for those tests that want it. Panics where there is none.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("AUTOEMBED_BESIDE").filter(|folder| !folder.is_empty());
    let folder = PathBuf::from(folder.expect("AUTOEMBED_BESIDE must name the folder that `make test` fills"));
    let program = folder.join(name);
    assert!(program.exists(), "{} is not there", program.display());
    program
}

/// A program that runs as the server's account, in the foreground, until this is dropped, or the test's process ends.
pub struct Beside {
    child: Child,
    log: PathBuf,
}

impl Cluster {
    /// Starts `program` with these arguments and variables, and nothing else of our environment; what it says goes to `name.log` in
    /// the server's folder.
    #[must_use]
    pub fn beside(&self, program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Beside {
        let name = program.file_name().and_then(|name| name.to_str()).expect("a program has a name");
        // The server's account may not be able to reach the original.
        let copy = self.socket_dir().join(name);
        // A file that is being run cannot be written.
        if !copy.exists() {
            std::fs::copy(program, &copy).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).expect("a file of our own");
        }
        let log = self.socket_dir().join(format!("{name}.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let mut command = find::command("setpriv", &self.account);
        command.args(["--pdeathsig", "KILL", "--"]).arg(copy).args(arguments).envs(variables.iter().copied());
        command.stdout(output.try_clone().expect("a second handle")).stderr(output).process_group(0);
        Beside { child: command.spawn().unwrap_or_else(|e| panic!("{name}: {e}")), log }
    }

    /// Writes a file that the server's account can read; where.
    #[must_use]
    pub fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.socket_dir().join(name);
        std::fs::write(&path, contents).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}

impl Beside {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids fit")
    }

    /// All that it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Asks until `ask` gives something. Panics, with the log, when the program has ended or half a minute is over.
    pub fn until<T>(&mut self, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
        eventually(what, seconds(30), || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("it ended with {status}:\n{}", self.log());
            }
            ask().map_err(|e| format!("{e}\n{}", self.log()))
        })
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Through the child, which knows whether it has ended already and its number is somebody else's.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}\n---", self.log.display(), self.log());
        }
    }
}
