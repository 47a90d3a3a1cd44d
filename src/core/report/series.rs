//! From what was done to what is drawn.

use super::chart::{OTHERS, Series, name_of};
use super::{Point, Report};
use std::collections::HashMap;

/// Things that have a colour of their own.
const COLOURS: usize = 5;

/// Adds up what is told of each of `names`, in the order in which they are stacked; those that come after the first few are one.
/// `told`: name, part and value.
pub(super) fn stacked(names: &[String], parts: usize, told: impl Iterator<Item = (String, usize, f64)>) -> Vec<Series> {
    let own = if names.len() <= COLOURS + 1 { names.len() } else { COLOURS };
    let new = |name: String, colour| Series { name, colour, values: vec![None; parts] };
    let mut all: Vec<Series> = names.iter().take(own).cloned().enumerate().map(|(i, name)| new(name, i)).collect();
    if names.len() > own {
        all.push(new(format!("{} others", names.len() - own), OTHERS));
    }
    let places: HashMap<&String, usize> = names.iter().enumerate().map(|(place, name)| (name, place)).collect();
    for (name, part, value) in told {
        let Some(&place) = places.get(&name) else { continue };
        let Some(sum) = all.get_mut(place.min(own)).and_then(|series| series.values.get_mut(part)) else { continue };
        *sum = Some(sum.unwrap_or(0.0) + value);
    }
    all
}

/// Names, the greatest sum first.
pub(super) fn ranked(told: impl Iterator<Item = (String, f64)>) -> Vec<String> {
    let mut sums: HashMap<String, f64> = HashMap::new();
    told.for_each(|(name, value)| *sums.entry(name).or_default() += value);
    let mut sums: Vec<(String, f64)> = sums.into_iter().collect();
    sums.sort_by(|(a, of_a), (b, of_b)| of_b.total_cmp(of_a).then_with(|| a.cmp(b)));
    sums.into_iter().map(|(name, _)| name).collect()
}

/// The tables, those with the most rows written or waiting first, so that a table has one colour in all pictures.
pub(super) fn tables_ranked(report: &Report) -> Vec<usize> {
    let written = |i: usize| of_table(report, i).map(|p| p.rows).sum::<i64>() as f64;
    let waiting = |i: usize| {
        let now = report.tables[i].pending.unwrap_or(0);
        of_table(report, i).filter_map(|p| p.pending).max().unwrap_or(0).max(now) as f64
    };
    let sums: Vec<(f64, f64)> = (0..report.tables.len()).map(|i| (written(i), waiting(i))).collect();
    let all = sums.iter().fold((1.0, 1.0), |all, one| (all.0 + one.0, all.1 + one.1));
    let mut order: Vec<usize> = (0..sums.len()).collect();
    let share = |i: &usize| sums[*i].0 / all.0 + sums[*i].1 / all.1;
    order.sort_by(|a, b| share(b).total_cmp(&share(a)).then_with(|| a.cmp(b)));
    order
}

/// What was done for one table: [`super::page`] has the points in the tables' order.
pub(super) fn of_table(report: &Report, table: usize) -> impl Iterator<Item = &Point> {
    let begin = report.points.partition_point(|point| point.table < table);
    report.points[begin..].iter().take_while(move |point| {
        report.between.tick();
        point.table == table
    })
}

/// What was done for all tables.
pub(super) fn of_all(report: &Report) -> impl Iterator<Item = &Point> {
    report.points.iter().inspect(move |_| report.between.tick())
}

/// Seconds of a part, as far as it is over.
pub(super) fn length(report: &Report, part: usize) -> f64 {
    let period = &report.period;
    let is_last = part + 1 == period.parts.len();
    if is_last { period.last_seconds.clamp(1.0_f64.min(period.seconds), period.seconds) } else { period.seconds }
}

/// How many rows of a table waited: in a part with a count the most of it, then what was left of them until the next, and at the end as it
/// is now.
pub(super) fn backlog(report: &Report, table: usize) -> Vec<Option<f64>> {
    let mut parts: Vec<(Option<i64>, Option<i64>, i64)> = vec![(None, None, 0); report.period.parts.len()];
    for point in of_table(report, table) {
        if let Some((most, left, rows)) = parts.get_mut(point.part) {
            *most = (*most).max(point.pending);
            *left = (*left).max(point.left);
            *rows += point.rows;
        }
    }
    if let (Some((last, ..)), Some(now)) = (parts.last_mut(), report.tables[table].pending) {
        *last = (*last).max(Some(now));
    }
    let mut held: Option<i64> = None;
    parts
        .into_iter()
        .map(|(most, left, rows)| {
            report.between.tick();
            let level = most.or(held);
            held = left.or(most).or(held.map(|held| (held - rows).max(0)));
            level.map(|n| n as f64)
        })
        .collect()
}

/// The names of the tables in their order.
pub(super) fn names(report: &Report, order: &[usize]) -> Vec<String> {
    order.iter().map(|i| name_of(&report.tables[*i])).collect()
}
