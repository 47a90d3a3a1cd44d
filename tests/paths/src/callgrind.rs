//! Counting: each path in a process of its own under valgrind.

use crate::path::COUNTED;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::Command;

/// What one path took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The path's name.
    pub name: String,
    /// What an item is.
    pub unit: String,
    /// How many there were.
    pub items: u64,
    /// Instructions for all of them.
    pub instructions: u64,
}

/// Counts every path of `program`, a build of this program. `work` is a folder for what comes and goes.
///
/// # Errors
/// What could not be run, or read.
pub fn count_all(program: &Path, work: &Path) -> Result<Vec<Counted>, String> {
    // Under one name whatever is counted: the length of a program's path moves its stack, and copying takes more or less by that.
    let copy = work.join("paths");
    std::fs::copy(program, &copy).map_err(|error| format!("{}: {error}", program.display()))?;
    let listed = output(Command::new(&copy).arg("list"))?;
    let counted = listed.lines().enumerate().map(|(number, line)| {
        let (name, items, unit) = entry(line).ok_or_else(|| format!("not an entry of a list: {line}"))?;
        show(name);
        let instructions = count(&copy, number, work).map_err(|error| format!("{name}: {error}"))?;
        Ok(Counted { name: name.to_owned(), unit: unit.to_owned(), items, instructions })
    });
    let counted = counted.collect();
    show("");
    counted
}

/// What is counted just now, to those who watch.
fn show(name: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\x1b[2K\r{name}");
    }
}

/// A line of `paths list`.
fn entry(line: &str) -> Option<(&str, u64, &str)> {
    let mut parts = line.split('\t');
    Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?))
}

fn count(program: &Path, number: usize, work: &Path) -> Result<u64, String> {
    let out = work.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", "--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["go", &number.to_string()]);
    // The environment lies on the stack as well, and a backtrace would be counted.
    let path = std::env::var_os("PATH").unwrap_or_default();
    output(valgrind.env_clear().env("PATH", path))?;
    let text = std::fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    match total(&text) {
        None | Some(0) => Err(format!("valgrind has counted nothing within {COUNTED}")),
        Some(instructions) => Ok(instructions),
    }
}

/// The sum that callgrind writes into its file.
fn total(file: &str) -> Option<u64> {
    let line = file.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")))?;
    line.trim().parse().ok()
}

fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} has failed ({}): {}", output.status, said.trim()));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{program}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_callgrind_writes() {
        let file = "# callgrind format\nversion: 1\ncmd: ./paths go 3\n\npositions: line\nevents: Ir\nsummary: 1234567\n\nfn=(1) x\n5 6\n\ntotals: 1234567\n";
        assert_eq!(total(file), Some(1_234_567));
        assert_eq!(total("version: 1\nevents: Ir\n"), None);
    }

    #[test]
    fn reads_its_own_list() {
        assert_eq!(entry("text: hashed\t2048\ttext"), Some(("text: hashed", 2048, "text")));
        assert_eq!(entry("text: hashed\ttext"), None);
    }
}
