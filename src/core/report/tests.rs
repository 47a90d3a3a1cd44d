#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

//! The page as a whole: what is in it, what never is, and how large it gets.

use super::*;
use std::collections::HashSet;

mod colours;

/// Three tables over a day in parts of a quarter of an hour.
fn busy(tables: usize) -> Report {
    let parts: Vec<String> =
        (0..97).map(|i| (780 + 15 * i) % 1440).map(|m| format!("2026-11-21 {:02}:{:02}:00", m / 60, m % 60)).collect();
    let table = |i: usize| Table {
        name: format!("public.table_{i}"),
        column: if i == 1 { "vec" } else { "embedding" }.to_string(),
        model: format!("model-{}", i % 2),
        state: "active".to_string(),
        pending: Some(i as i64),
        in_flight: Some(0),
        failed: Some(0),
        embedded: Some(1000),
        ..Table::default()
    };
    let point = |table: usize, part: usize| Point {
        table,
        model: format!("model-{}", table % 2),
        part,
        requests: 12,
        rows: 9000 + 7 * part as i64,
        inputs: 8000,
        cached: 100,
        tokens: 40_000,
        cost: 0.0008,
        errors: 1,
        p95: Some(120.0 + part as f64),
        waited: Some(900.0),
        pending: Some(1234),
        left: Some(34),
    };
    Report {
        about: About {
            database: "app".into(),
            made_at: "2026-11-21 13:07:12".into(),
            time_zone: "UTC".into(),
            ..About::default()
        },
        period: Period { asked: 86_400.0, kept: 604_800.0, seconds: 900.0, last_seconds: 432.0, parts },
        tables: (0..tables).map(table).collect(),
        points: (0..tables).flat_map(|t| (0..97).map(move |part| point(t, part))).collect(),
        times: (0..97)
            .map(|part| Times {
                part,
                p50: Some(50.0),
                p95: Some(200.0),
                waited: Some(300.0),
                waited_most: Some(90_000.0),
            })
            .collect(),
        errors: (0..97).map(|part| Errors { part, code: "http_503".into(), count: 2 }).collect(),
        workers: vec![Worker { pid: 1, kind: "worker".into(), state: "working".into(), started: "2026-11-21".into() }],
        ..Report::default()
    }
}

/// The names of all tags, after a look at whether those that are opened are closed, in the right order.
fn tags(html: &str) -> Vec<String> {
    let (mut all, mut open) = (Vec::new(), Vec::new());
    for part in html.split('<').skip(1) {
        let (tag, _) =
            part.split_once('>').unwrap_or_else(|| panic!("a tag does not end: {}", &part[..part.len().min(80)]));
        let name = tag.trim_end_matches('/').split(' ').next().unwrap_or_default().to_string();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name), "before {}", &part[..part.len().min(80)]),
            None if tag.ends_with('/') || tag.starts_with('!') || ["meta", "br"].contains(&name.as_str()) => {}
            None => open.push(name.clone()),
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        all.push(name);
    }
    assert!(open.is_empty(), "{open:?}");
    all
}

#[test]
fn a_page_needs_nothing_else_and_runs_nothing() {
    for report in [Report::default(), busy(1), busy(3), busy(60)] {
        let html = page(report.clone());
        assert!(html.is_ascii());
        let names: HashSet<String> = tags(&html).into_iter().collect();
        for forbidden in
            ["script", "link", "img", "iframe", "object", "image", "use", "foreignObject", "a", "form", "base"]
        {
            assert!(!names.contains(forbidden), "{forbidden}");
        }
        for word in ["http://", "https://", "url(", "@import", "javascript:", " on"] {
            let at = html.find(word).map(|at| &html[at..html.len().min(at + 60)]);
            let is_text = word == " on"
                && at.is_some_and(|text| {
                    !text.split('=').next().is_some_and(|n| n.trim().len() < 14 && !n.trim().contains(' '))
                });
            assert!(at.is_none() || is_text, "{at:?}");
        }
    }
}

#[test]
fn texts_are_texts() {
    const BAD: &str = "<script>alert(\"1\")</script>'\u{1F600}&amp;\u{202e}\u{1}";
    let bad = || BAD.to_string();
    let mut report = busy(2);
    report.about = About {
        database: bad(),
        role: bad(),
        server: bad(),
        extension: bad(),
        library: String::new(),
        pgvector: bad(),
        made_at: bad(),
        time_zone: bad(),
        is_standby: true,
    };
    report.tables[0] = Table {
        name: bad(),
        column: bad(),
        model: bad(),
        state: format!("blocked: {BAD}"),
        ..report.tables[0].clone()
    };
    report.tables[1].state = format!("active: {BAD}");
    report.points.iter_mut().for_each(|p| p.model = bad());
    report.errors.iter_mut().for_each(|e| e.code = bad());
    report.failures = vec![Failures { table: bad(), code: bad(), hint: bad(), count: 1, last: bad() }];
    report.progress =
        vec![Progress { table: bad(), kind: bad(), percent: f64::NAN, state: bad(), ..Progress::default() }];
    report.workers = vec![Worker { pid: 1, kind: bad(), state: bad(), started: bad() }];
    report.usage = Some(vec![Usage { model: bad(), day: bad(), ..Usage::default() }]);
    let html = page(report.clone());
    assert!(!tags(&html).iter().any(|tag| tag.contains("script")));
    let escaped = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39;&#128512;&amp;amp;&#65533;&#65533;";
    assert!(html.matches(escaped).count() >= 25, "{}", html.matches(escaped).count());
    assert_eq!(html.matches("alert(").count(), html.matches("&lt;script&gt;alert(").count());
}

#[test]
fn it_says_so_where_there_is_nothing() {
    let html = page(Report::default());
    for told in [
        "no table here",
        "No row was embedded",
        "was not counted",
        "No request was answered",
        "No request was made",
        "None: rows wait",
    ] {
        assert!(html.contains(told), "{told}");
    }
    assert!(!html.contains("<svg") && !html.contains("NaN") && !html.contains("inf"));
    // Who may not see the figures of a table is told why there are none.
    let mut report = busy(1);
    report.tables[0] =
        Table { pending: None, in_flight: None, failed: None, embedded: None, ..report.tables[0].clone() };
    report.points.clear();
    assert!(page(report.clone()).contains("Policies hide rows of this table from the reader"));
    // Not the built-in model's tokens, nor a price that nobody has told.
    let mut report = busy(1);
    report.points.iter_mut().for_each(|p| p.cost = 0.0);
    assert!(page(report.clone()).contains("No price is known"));
    report.points.iter_mut().for_each(|p| p.tokens = 0);
    assert!(page(report.clone()).contains("the built-in model has none"));
}

/// All are told apart by it where there is but one of them, and a long one leaves room for the picture.
#[test]
fn pictures_name_what_they_show() {
    let html = page(busy(1));
    for name in ["public.table_0", "http_503", "model-0", "answered", "failed"] {
        assert!(html.contains(&format!("<span>{name}</span></li>")), "{name}");
    }
    let mut report = busy(2);
    report.tables[0].name = "n".repeat(200);
    let html = page(report.clone());
    let name = "n".repeat(200);
    assert_eq!(html.matches(&name).count(), 3, "twice for who points at a legend, and with its figures");
    // A figure that is small has as many digits as it needs.
    report.points.iter_mut().for_each(|p| p.cost = 1e-9);
    assert!(page(report.clone()).contains(">$1e-9<") && !page(report.clone()).contains("$&lt;"));
    // What is heard where nothing is seen.
    let label = html.split("aria-label=\"").find(|label| label.starts_with("Requests that failed")).unwrap();
    assert!(
        label.starts_with(
            "Requests that failed, by code: 194 of 2,328 (8.3 %). The most: 2026-11-21 13:00: 2. All parts"
        ),
        "{label:.200}"
    );
}

#[test]
fn what_is_wrong_is_said_first() {
    let mut report = busy(3);
    assert!(page(report.clone()).contains("Nothing needs anybody"));
    report.tables[2].state = "blocked: no key; give one".to_string();
    report.tables[1].failed = Some(3);
    report.workers.clear();
    let html = page(report.clone());
    assert!(!html.contains("Nothing needs anybody"));
    assert!(html.contains("public.table_2 is blocked: no key; give one"));
    assert!(html.contains("Rows wait, and no worker serves this database"));
    assert!(html.contains("3 rows were given up and wait for somebody"));
    let place = |text: &str| html.find(text).unwrap();
    assert!(place("<h3>public.table_2</h3>") < place("<h3>public.table_0</h3>"), "what needs somebody comes first");
    report.tables[0].state = "active: waiting for the API, which answered: no".to_string();
    assert!(page(report.clone()).contains("public.table_0: waiting for the API, which answered: no"));
    // The worst comes first, whatever it is.
    let said = page(report.clone());
    assert!(said.find("no worker serves").unwrap() < said.find("waiting for the API, which answered").unwrap());
    let mut held = busy(1);
    (held.tables[0].state, held.tables[0].pending) = ("paused".to_string(), Some(7));
    assert!(page(held.clone()).contains("public.table_0 is paused; 7 rows wait"));
    // A standby has no worker, and needs none.
    report.about.is_standby = true;
    assert!(!page(report.clone()).contains("no worker serves"));
}

#[test]
fn with_many_tables_it_stays_small() {
    let sizes = [3, 50, 500].map(|tables| page(busy(tables)).len());
    println!("{sizes:?} bytes with 3, 50 and 500 tables");
    assert!(sizes[0] < 210_000 && sizes[1] < 330_000 && sizes[2] < 340_000, "{sizes:?}");
    assert!(page(busy(500)).contains("And 450 more"));
}

#[test]
fn figures_are_those_of_the_points() {
    let html = page(busy(1));
    let rows: i64 = (0..97).map(|part| 9000 + 7 * part).sum();
    assert!(html.contains(&format!("{} rows in all", format::count(rows))));
    assert!(html.contains("97 of 1,164 (8.3 %)"), "requests that failed");
    assert!(html.contains("9,700 remembered of 785,700 (1.2 %)"));
    assert!(html.contains("3,880,000 tokens in all") && html.contains("$0.0776 in all"));
    // The last part is not over: its rate is of the time so far.
    assert!(html.contains("2026-11-21 13:00: 10 rows/s") && html.contains("2026-11-21 13:00: 22.4 rows/s"));
    // What is drawn is there as a table, too, a line a part.
    let (_, table) = html.split_once("<table class=\"figures\">").unwrap();
    let lines: Vec<&str> =
        table.split("</table>").next().unwrap().lines().filter(|line| line.contains("row\"")).collect();
    assert_eq!(lines.len(), 97);
    assert_eq!(
        lines[1],
        "<tr><th scope=\"row\">2026-11-21 13:15</th><td>9,007</td><td>1,234</td><td>50 ms</td><td>200 ms</td><td>300 ms</td><td>1 min 30 s</td>\
         <td>12</td><td>1</td><td>8,000</td><td>100</td><td>40,000</td><td>$0.0008</td></tr>"
    );
    // And where there is little, not as thousandths of a row.
    let mut report = busy(1);
    report.points.iter_mut().for_each(|p| p.rows = 30);
    assert!(
        page(report.clone()).contains("Rows embedded a minute") && page(report.clone()).contains("13:15: 2 rows/min")
    );
    report.points.iter_mut().for_each(|p| p.rows = i64::from(p.part == 9));
    assert!(page(report.clone()).contains("Rows embedded an hour") && page(report.clone()).contains("4 rows/h"));
    // A place outside of the time is no reason to fail.
    let mut report = busy(1);
    report.points[0].part = 5000;
    report.times[0].part = 5000;
    report.errors[0].part = 5000;
    page(report.clone());
}

#[test]
fn a_backlog_lasts_until_it_is_counted_again() {
    let mut report = busy(2);
    report.period.parts.truncate(6);
    report.points = vec![
        Point { table: 0, part: 1, pending: Some(70), left: Some(0), ..Point::default() },
        Point { table: 0, part: 1, pending: Some(90), left: Some(40), ..Point::default() },
        Point { table: 0, part: 3, pending: None, ..Point::default() },
        Point { table: 0, part: 4, pending: Some(5), ..Point::default() },
    ];
    report.tables[0].pending = Some(8);
    assert_eq!(series::backlog(&report, 0), [None, Some(90.0), Some(40.0), Some(40.0), Some(5.0), Some(8.0)]);
    assert_eq!(series::backlog(&report, 1), [None, None, None, None, None, Some(1.0)]);
    report.tables[0].pending = None;
    assert_eq!(series::backlog(&report, 0).last(), Some(&Some(5.0)));
    report.points[2].rows = 30;
    assert_eq!(series::backlog(&report, 0)[2..4], [Some(40.0), Some(40.0)]);
    report.points[3].pending = None;
    assert_eq!(series::backlog(&report, 0)[4], Some(10.0), "what was written waits no more");
    report.points[3].pending = Some(5);
    report.points[3].left = Some(0);
    assert_eq!(
        series::backlog(&report, 0).last(),
        Some(&Some(0.0)),
        "what was counted in a burst is not there for ever"
    );
}

#[test]
fn quantiles_are_near_the_true_ones() {
    let class = |value: f64| (value.ln() * CLASSES).floor() as i32;
    for n in [1, 2, 20, 1000, 54_321] {
        let mut classes = Classes::default();
        let mut values: Vec<f64> = (0..n).map(|i| 0.7 + f64::from(i * 7919 % n) * 1.3).collect();
        values.iter().for_each(|value| classes.add(class(*value), 1));
        values.sort_by(f64::total_cmp);
        let found = classes.quantiles([0.0, 0.5, 0.95, 1.0]).unwrap();
        for (share, found) in [0.0, 0.5, 0.95, 1.0].into_iter().zip(found) {
            let wanted = values[((share * f64::from(n)).ceil() as usize).max(1) - 1];
            assert!((found / wanted - 1.0).abs() < 0.017, "{share} of {n}: {found}, not {wanted}");
        }
    }
    assert!(Classes::default().quantiles([0.5]).is_none());
}

#[test]
fn parts_fit_the_clock() {
    for (all, part) in [
        (0.5, 1.0),
        (60.0, 1.0),
        (3600.0, 60.0),
        (86_400.0, 900.0),
        (7.0 * 86_400.0, 7200.0),
        (30.0 * 86_400.0, 28_800.0),
        (3660.0 * 86_400.0, 60.0 * 86_400.0),
        (10_000.0 * 86_400.0, 105.0 * 86_400.0),
    ] {
        assert_eq!(part_seconds(all), part, "{all}");
    }
    for minutes in 1..2000 {
        let parts = 3600.0 * f64::from(minutes) / part_seconds(3600.0 * f64::from(minutes));
        assert!((30.0..=96.0).contains(&parts) || minutes < 2, "{minutes} h: {parts}");
    }
}

#[test]
fn marks_of_the_time_are_round() {
    let parts = |from: i64, step: i64, n: i64| -> Vec<String> {
        let clock =
            |s: i64| format!("2026-10-{:02} {:02}:{:02}:{:02}", 25 + s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60);
        (0..n).map(|i| clock(from + i * step)).collect()
    };
    let marks = |parts: &[String], seconds| scale::time_marks(parts, seconds, 6);
    let day = marks(&parts(13 * 3600, 900, 97), 900.0);
    let words: Vec<&str> = day.iter().map(|(_, mark)| mark.as_str()).collect();
    assert_eq!(words, ["18:00", "26 Oct", "06:00", "12:00"]);
    assert_eq!(day[0].0, 20);
    let minute = marks(&parts(3590, 1, 60), 1.0);
    let words: Vec<&str> = minute.iter().map(|(_, mark)| mark.as_str()).collect();
    assert_eq!(words, ["00:59:50", "01:00:00", "01:00:10", "01:00:20", "01:00:30", "01:00:40"]);
    // An hour that is there twice, and one that is left out.
    let mut twice = parts(0, 1800, 5);
    twice.splice(4.., parts(3600, 1800, 90));
    assert!(marks(&twice, 1800.0).windows(2).all(|two| two[0].0 < two[1].0));
    let mut gap = parts(0, 1800, 4);
    gap.extend(parts(3 * 3600, 1800, 90));
    assert!(marks(&gap, 1800.0).len() <= 9);
    assert!(marks(&["nonsense".to_string()], 60.0).is_empty());
    let months: Vec<String> = (0..90).map(|i| format!("{}-{:02}-01 00:00:00", 2020 + i / 12, i % 12 + 1)).collect();
    assert_eq!(marks(&months, 30.4 * 86_400.0).last().unwrap().1.len(), "Jan 2027".len());
}

#[test]
fn axes_hold_all_values() {
    for most in [1e-6, 0.3, 1.0, 1.01, 7.0, 99.0, 1234.0, 8e9] {
        for is_whole in [false, true] {
            let (scale, lines) = scale::Scale::linear(most, is_whole);
            assert!((2..=6).contains(&lines.len()) && *lines.last().unwrap() >= most * 0.999_999, "{most}: {lines:?}");
            assert!(
                scale.height(0.0) == 0.0
                    && (scale.height(most) > 0.4 || is_whole && most < 1.0)
                    && scale.height(2e10) == 1.0
            );
            assert!(!is_whole || lines.iter().all(|line| line.fract().abs() < 1e-9), "{lines:?}");
        }
    }
    let (scale, lines) = scale::Scale::for_times(3.0, 90_000.0);
    assert_eq!(lines, [1.0, 10.0, 100.0, 1000.0, 10_000.0, 60_000.0, 600_000.0]);
    assert!(scale.height(3.0) > 0.0 && scale.height(90_000.0) < 1.0 && scale.height(0.0) == 0.0);
    assert_eq!(scale::Scale::for_times(50.0, 90.0).0, scale::Scale::Linear(100.0));
    // As a clock has them, and so that each can be written short.
    let written =
        |least, most| scale::Scale::for_times(least, most).1.into_iter().map(format::millis_marked).collect::<Vec<_>>();
    assert_eq!(written(90.0, 1400.0), ["0", "500 ms", "1 s", "1.5 s"]);
    assert_eq!(written(9e4, 2.1e5), ["0", "1 min", "2 min", "3 min", "4 min"]);
    assert_eq!(written(3e6, 5e6), ["0", "30 min", "1 h", "90 min"]);
    assert_eq!(written(400.0, 2.1e6), ["100 ms", "1 s", "10 s", "1 min", "10 min", "1 h"]);
    for most in (0..90).map(|i| 1.3f64.powi(i)) {
        for least in [most / 2.0, most / 1e3, most / 1e7] {
            let (scale, lines) = scale::Scale::for_times(least, most);
            assert!((2..=8).contains(&lines.len()) && scale.height(most) > 0.3, "{least} to {most}: {lines:?}");
            assert!(lines.iter().all(|line| format::millis_marked(*line).len() <= 8), "{lines:?}");
            let marks: HashSet<String> = lines.iter().map(|line| format::millis_marked(*line)).collect();
            assert_eq!(marks.len(), lines.len(), "{lines:?}");
        }
    }
    for strange in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        assert!(scale::Scale::linear(strange, true).1.iter().all(|line| line.is_finite()), "{strange}");
    }
}

#[test]
fn figures_as_people_read_them() {
    use format::*;
    assert_eq!([0, 999, 1000, -1_234_567].map(count), ["0", "999", "1,000", "-1,234,567"]);
    assert_eq!([0.0, 0.0001, 0.012, 1.25, 57.04, 1234.4].map(number), ["0", "< 0.001", "0.012", "1.25", "57", "1,234"]);
    assert_eq!([950.0, 1200.0, 30_000_000.0, 2e9].map(short), ["950", "1.2k", "30M", "2G"]);
    assert_eq!([0.04, 57.0, 999.0, 1240.0, 185_000.0].map(millis), ["0 ms", "57 ms", "999 ms", "1.2 s", "3 min 5 s"]);
    assert_eq!(
        [-1.0, 0.44, 59.7, 60.0, 3599.9, 7830.0, 86_399.0, 90_000.0].map(seconds),
        ["0 s", "0.4 s", "1 min", "1 min", "1 h", "2 h 11 min", "1 d", "1 d 1 h"]
    );
    assert_eq!(
        [0.0, 0.1, 10.0, 1500.0, 60_000.0, 90_000.0, 3.6e6, 8.64e8].map(millis_marked),
        ["0", "0.1 ms", "10 ms", "1.5 s", "1 min", "90 s", "1 h", "10 d"]
    );
    assert_eq!(
        [0.0, 5e-7, 1.5e-6, 0.000_15, 0.02, 0.25].map(short),
        ["0", "5e-7", "1.5e-6", "0.00015", "0.02", "0.25"]
    );
    assert_eq!([0.0, 0.0005, 4.0, 1500.0].map(dollars_marked), ["0", "$0.0005", "$4", "$1.5k"]);
    assert_eq!([0.0, 2.5, 0.2, 0.001].map(pace), ["0 rows/s", "2.5 rows/s", "12 rows/min", "3.6 rows/h"]);
    let long = "a".repeat(30) + "-\u{e9}" + &"z".repeat(30);
    assert_eq!(abridged(&long, 21), format!("{}...{}", "a".repeat(9), "z".repeat(9)));
    assert_eq!(abridged("caf\u{e9}", 4), "caf\u{e9}");
    assert_eq!(
        [0.0, 1e-9, 0.000_12, 0.5, 12.345, 4321.0].map(dollars),
        ["$0", "< $0.000001", "$0.00012", "$0.5000", "$12.35", "$4,321"]
    );
    assert_eq!(
        [(0, 0), (0, 5), (1, 3), (1, 10_000), (9_999, 10_000), (4, 4)].map(|(a, b)| percent(a, b)),
        ["-", "0 %", "33.3 %", "< 0.1 %", "> 99.9 %", "100 %"]
    );
    assert_eq!(escape("a<b>&\"'\n\u{7}"), "a&lt;b&gt;&amp;&quot;&#39; \u{fffd}");
    assert_eq!(ascii("caf\u{e9} \u{1F600}"), "caf&#233; &#128512;");
    assert_eq!(shortened("abc def", 3) + &shortened("abc", 3), "abc...abc");
}

/// It looks now and then whether it is still wanted, and can be given up there.
#[test]
fn a_page_of_many_tables_looks_around() {
    use std::cell::Cell;
    thread_local! {
        static LOOKS: Cell<u32> = const { Cell::new(0) };
    }
    let many = |look: fn()| {
        let mut report = busy(60);
        let points = report.points.clone();
        report.points = points.into_iter().cycle().take(200_000).collect();
        report.between = Between::new(look);
        report
    };
    page(many(|| LOOKS.with(|looks| looks.set(looks.get() + 1))));
    let looks = LOOKS.with(Cell::get);
    // Each point is looked at several times.
    assert!(looks > 5 * 200_000 / 4096, "{looks}");
    let given_up = std::panic::catch_unwind(|| page(many(|| panic!("not wanted"))));
    assert!(given_up.is_err());
}
