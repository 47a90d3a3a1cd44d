//! Figures as people read them.

use crate::callgrind::Counted;
use std::fmt::Write as _;

/// What grew by more than this share is a regression. Two builds of one source differ by far less.
const TOLERATED: f64 = 0.02;

/// One line a path: instructions in all, and for an item.
pub fn measured(counted: &[Counted]) -> String {
    let mut rows = vec![["path", "items", "instructions", "each"].map(str::to_owned)];
    rows.extend(counted.iter().map(|one| {
        let items = format!("{} x {}", grouped(one.items), one.unit);
        [one.name.clone(), items, grouped(one.instructions), grouped(one.instructions / one.items.max(1))]
    }));
    aligned(&rows)
}

/// One line a path: before, now, and the ratio of both; and how many have grown by more than is tolerated.
pub fn compared(label: &str, before: &[Counted], now: &[Counted]) -> (String, usize) {
    let mut rows = vec![["path", label, "now", "ratio", ""].map(str::to_owned)];
    let mut grown = 0;
    for one in now {
        let old = before.iter().find(|old| old.name == one.name && old.items == one.items);
        let Some(old) = old else {
            rows.push([one.name.clone(), "-".into(), grouped(one.instructions), "-".into(), "new".into()]);
            continue;
        };
        let ratio = one.instructions as f64 / old.instructions.max(1) as f64;
        let is_grown = ratio > 1.0 + TOLERATED;
        grown += usize::from(is_grown);
        let mark = match ratio {
            _ if is_grown => format!("GREW by {:.1} %", (ratio - 1.0) * 100.0),
            ratio if ratio < 1.0 - TOLERATED => format!("fell by {:.1} %", (1.0 - ratio) * 100.0),
            _ => String::new(),
        };
        rows.push([
            one.name.clone(),
            grouped(old.instructions),
            grouped(one.instructions),
            format!("{ratio:.4}"),
            mark,
        ]);
    }
    for old in before.iter().filter(|old| !now.iter().any(|one| one.name == old.name && one.items == old.items)) {
        rows.push([old.name.clone(), grouped(old.instructions), "-".into(), "-".into(), "gone".into()]);
    }
    (aligned(&rows), grown)
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Columns side by side: names and remarks to the left, figures to the right.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut table = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or(0);
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                4 => write!(line, "  {cell}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    fn counted(name: &str, instructions: u64) -> Counted {
        Counted { name: name.to_owned(), unit: "text".to_owned(), items: 10, instructions }
    }

    #[test]
    fn a_path_is_shown_in_all_and_for_one_item() {
        let table = measured(&[counted("one", 12_345), counted("another", 999)]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1], "one      10 x text        12,345  1,234");
        assert_eq!(lines[2], "another  10 x text           999     99");
    }

    #[test]
    fn only_what_grew_by_more_than_the_tolerated_share_is_a_regression() {
        for (now, grown, mark) in
            [(1000, 0, ""), (1020, 0, ""), (1021, 1, "GREW by 2.1 %"), (980, 0, ""), (500, 0, "fell by 50.0 %")]
        {
            let (table, count) = compared("v1", &[counted("a", 1000)], &[counted("a", now)]);
            assert_eq!(count, grown, "{table}");
            let rest = table.lines().last().unwrap_or_default();
            assert!(rest.ends_with(mark) && rest.contains("GREW") == (grown > 0), "{table}");
        }
    }

    #[test]
    fn what_one_side_alone_has_is_named_and_no_regression() {
        let (table, grown) = compared("v1", &[counted("old", 1)], &[counted("fresh", 9)]);
        assert_eq!(grown, 0);
        assert!(table.contains("new") && table.contains("gone"), "{table}");
    }

    #[test]
    fn other_sizes_are_other_paths() {
        let more = Counted { items: 20, ..counted("a", 2000) };
        assert_eq!(compared("v1", &[counted("a", 1000)], &[more]).1, 0);
    }
}
