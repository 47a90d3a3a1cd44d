//! How many instructions the hot paths take, whatever else the machine does.
//!
//! `paths measure FOLDER` counts the paths of this build, `paths compare FOLDER PROGRAM LABEL` those of another one as well and
//! ends with 1 where one of them has grown. The folder is for what comes and goes. `make bench-core` and `make bench-compare` call it.

#![forbid(unsafe_code)]
// A part of the paths needs a part of the texts.
#![cfg_attr(not(feature = "default"), allow(dead_code))]

mod callgrind;
mod path;
mod paths;
mod table;
mod texts;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    done(&arguments).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn done(arguments: &[&str]) -> Result<ExitCode, String> {
    match arguments {
        ["list"] => paths::all().for_each(|path| println!("{}\t{}\t{}", path.name, path.items, path.unit)),
        ["go", number] => {
            let number: usize = number.parse().map_err(|error| format!("{number}: {error}"))?;
            paths::all().nth(number).ok_or("there are not so many paths")?.go()?;
        }
        ["measure", folder] => {
            print!("{}", table::measured(&callgrind::count_all(&own()?, Path::new(folder))?));
        }
        ["compare", folder, before, label] => {
            let folder = Path::new(folder);
            let before = callgrind::count_all(Path::new(before), folder)?;
            let (table, grown) = table::compared(label, &before, &callgrind::count_all(&own()?, folder)?);
            print!("{table}");
            if grown > 0 {
                println!("{grown} of {} paths take more instructions than at {label}", paths::all().count());
                return Ok(ExitCode::FAILURE);
            }
        }
        _ => return Err("one of: list, go NUMBER, measure FOLDER, compare FOLDER PROGRAM LABEL".to_owned()),
    }
    Ok(ExitCode::SUCCESS)
}

fn own() -> Result<std::path::PathBuf, String> {
    std::env::current_exe().map_err(|error| error.to_string())
}
