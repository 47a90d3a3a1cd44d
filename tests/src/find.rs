//! Where the server's programs are, and as whom they run.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The account the server runs as: PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// True when this differs from the account the tests run as.
    pub switched: bool,
}

/// The account for the server: oneself, or for root `postgres`, or for want of that `nobody`.
///
/// Errors: root, and the machine has neither account.
pub fn account() -> io::Result<Account> {
    let me = nix::unistd::geteuid();
    if !me.is_root() {
        return Ok(Account { uid: me.as_raw(), gid: nix::unistd::getegid().as_raw(), switched: false });
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = nix::unistd::User::from_name(name)? {
            return Ok(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw(), switched: true });
        }
    }
    Err(io::Error::other("no account to run the server as: create a user named postgres"))
}

/// The folder of the server's programs: `$PG_CONFIG --bindir`, else that of the newest
/// `/usr/lib/postgresql/*/bin/pg_config` (Debian's layout), else of the `pg_config` on the PATH.
pub fn bindir() -> io::Result<PathBuf> {
    bindir_of(&pg_config())
}

/// The folder of the programs of the server copy that has a test build of the extension: `$TEST_BUILD_PG_CONFIG --bindir`.
pub fn test_build_bindir() -> io::Result<PathBuf> {
    let config = std::env::var_os("TEST_BUILD_PG_CONFIG").filter(|path| !path.is_empty()).ok_or_else(|| {
        io::Error::other(
            "TEST_BUILD_PG_CONFIG must name the pg_config of a server with a test build: `make test` makes both",
        )
    })?;
    bindir_of(Path::new(&config))
}

/// The same of a later server, to which pg_upgrade brings data: `$NEWER_PG_CONFIG --bindir`, where that is set.
pub fn newer_bindir() -> io::Result<Option<PathBuf>> {
    let config = std::env::var_os("NEWER_PG_CONFIG").filter(|path| !path.is_empty());
    config.map(|config| bindir_of(Path::new(&config))).transpose()
}

fn bindir_of(pg_config: &Path) -> io::Result<PathBuf> {
    ask(pg_config, "--bindir")
}

/// The folder of the server's extension scripts: `$PG_CONFIG --sharedir` and `extension`.
pub fn extension_scripts() -> io::Result<PathBuf> {
    Ok(ask(&pg_config(), "--sharedir")?.join("extension"))
}

fn ask(pg_config: &Path, option: &str) -> io::Result<PathBuf> {
    let output = Command::new(pg_config).arg(option).output().map_err(|e| {
        io::Error::new(e.kind(), format!("pg_config did not run ({e}): set PG_CONFIG to the server's pg_config"))
    })?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// The version that `CREATE EXTENSION autoembed` makes in that server, by its control file.
pub fn default_version() -> io::Result<String> {
    let control = std::fs::read_to_string(extension_scripts()?.join("autoembed.control"))?;
    let value = control.lines().find_map(|line| line.strip_prefix("default_version")?.split('\'').nth(1));
    value.map(str::to_owned).ok_or_else(|| io::Error::other("autoembed.control has no default_version"))
}

/// The `pg_config` that names the server under test.
#[must_use]
pub fn pg_config() -> PathBuf {
    if let Some(path) = std::env::var_os("PG_CONFIG").filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            let program = entry.path().join("bin/pg_config");
            program.exists().then_some((major, program))
        })
        .collect();
    found.sort();
    found.pop().map_or_else(|| PathBuf::from("pg_config"), |(_, program)| program)
}

/// A command that runs as `account` with an empty environment: a `RUST_BACKTRACE` that reached the server would put
/// backtraces into the messages clients see, and a `PGHOST` would send a tool to another server.
pub fn command(program: impl AsRef<OsStr>, account: &Account) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").current_dir("/").stdin(Stdio::null());
    if account.switched {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// Runs `command` to its end. Errors: it did not start, or it failed; the message holds its output.
pub fn run(command: &mut Command) -> io::Result<String> {
    let output = command
        .output()
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", Path::new(command.get_program()).display())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(format!(
        "{} ended with {}: {}{}",
        Path::new(command.get_program()).display(),
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    )))
}
