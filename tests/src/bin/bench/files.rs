//! Where a run is kept: a page, its pictures, and the figures for programs.

use super::json;
use super::report::{self, Report};
use std::fs;
use std::path::Path;

/// What lies between these lines of the page is the last run.
const BEGIN: &str = "<!-- the last run: written by make bench, from here -->";
const END: &str = "<!-- to here -->";

/// Writes `performance.md`, `performance.json` and the pictures in `performance/`, all below `folder`. Of a page that is there, what is not
/// between the marks stays. Errors: what cannot be written, and why.
pub fn write(report: &Report, folder: &Path) -> Result<(), String> {
    let pictures = folder.join("performance");
    let error = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    fs::create_dir_all(&pictures).map_err(|e| error(&pictures, e))?;
    for (name, picture) in report.sections.iter().flat_map(|section| &section.pictures) {
        let file = pictures.join(format!("{name}.svg"));
        fs::write(&file, picture.svg()).map_err(|e| error(&file, e))?;
    }
    let page = folder.join("performance.md");
    let before = fs::read_to_string(&page).unwrap_or_default();
    let whole = between(&before, &report::markdown(report, "performance"));
    fs::write(&page, whole).map_err(|e| error(&page, e))?;
    let figures = folder.join("performance.json");
    fs::write(&figures, json::text(report)).map_err(|e| error(&figures, e))
}

/// The page with `inner` between its marks, which are added at the end of one that has none.
fn between(page: &str, inner: &str) -> String {
    let Some((head, rest)) = page.split_once(BEGIN) else {
        let head = if page.is_empty() { "# Performance\n" } else { page.trim_end() };
        return format!("{}\n\n{BEGIN}\n\n{}\n\n{END}\n", head.trim_end(), inner.trim_end());
    };
    let tail = rest.split_once(END).map_or("\n", |(_, tail)| tail);
    format!("{head}{BEGIN}\n\n{}\n\n{END}{tail}", inner.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("# P\n\nBy hand.\n\n{BEGIN}\nold\n{END}\n\nMore.\n");
        let once = between(&page, "new\n");
        assert_eq!(once, format!("# P\n\nBy hand.\n\n{BEGIN}\n\nnew\n\n{END}\n\nMore.\n"));
        assert_eq!(between(&once, "new\n"), once);
        assert!(
            between("", "new").starts_with("# Performance\n\n<!--") && between("# P", "new").starts_with("# P\n\n<!--")
        );
    }
}
