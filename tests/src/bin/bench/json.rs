//! A run as JSON, for programs: every round, not only what lies in the middle.

use super::figures::Spread;
use super::report::{Cell, Goal, Report, Section, Side, Table, rounds};
use serde_json::{Map, Value, json};

/// All of it; indented.
pub fn text(report: &Report) -> String {
    let machine: Map<String, Value> =
        report.machine.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let failures: Vec<Value> =
        report.failures.iter().map(|(section, why)| json!({"section": section, "why": why})).collect();
    let sections: Vec<Value> = report.sections.iter().map(section).collect();
    let all = json!({"machine": machine, "seconds": report.seconds, "sections": sections, "failures": failures});
    format!("{all:#}\n")
}

fn section(of: &Section) -> Value {
    let (tables, goals): (Vec<_>, Vec<_>) =
        (of.tables.iter().map(table).collect(), of.goals.iter().map(goal).collect());
    json!({"name": of.name, "title": of.title, "how": of.how, "tables": tables, "goals": goals})
}

fn table(of: &Table) -> Value {
    let row = |cells: &Vec<Cell>| {
        let mut fields: Map<String, Value> =
            of.columns.iter().zip(cells).map(|(name, cell)| (name.clone(), field(cell))).collect();
        fields.insert("rounds".into(), rounds(cells).into());
        Value::from(fields)
    };
    json!({"title": of.title, "rows": of.rows.iter().map(row).collect::<Vec<_>>()})
}

fn field(of: &Cell) -> Value {
    match of {
        Cell::Word(word) => word.as_str().into(),
        Cell::Figure(figure) => spread(figure),
    }
}

fn spread(of: &Spread) -> Value {
    let (least, greatest) = of.bounds().unzip();
    json!({"median": of.median(), "min": least, "max": greatest, "rounds": of.values()})
}

fn goal(of: &Goal) -> Value {
    let side = if of.side == Side::AtMost { "at most" } else { "at least" };
    json!({"what": of.what, "side": side, "wanted": of.wanted, "measured": spread(&of.seen), "met": of.is_met()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_is_there() {
        let figure: Spread = [2.0, 1.0].into_iter().collect();
        let mut one = Table::new("T", &["what", "rate"]);
        one.row(["a".into(), figure.clone().into()]);
        let section = Section {
            name: "drain",
            title: "Drain",
            how: String::new(),
            tables: vec![one],
            goals: vec![Goal::at_least("rate", 1.0, figure), Goal::at_most("none", 1.0, Spread::default())],
            pictures: Vec::new(),
        };
        let report =
            Report { sections: vec![section], machine: vec![("cores".into(), "2".into())], ..Report::default() };
        let read: Value = serde_json::from_str(&text(&report)).unwrap();
        assert_eq!(read["machine"]["cores"], "2");
        let section = &read["sections"][0];
        let row = &section["tables"][0]["rows"][0];
        assert_eq!((&row["what"], &row["rounds"]), (&json!("a"), &json!(2)));
        assert_eq!(row["rate"], json!({"median": 1.5, "min": 1.0, "max": 2.0, "rounds": [2.0, 1.0]}));
        assert_eq!(section["goals"][0]["met"], true);
        assert_eq!(section["goals"][1]["met"], Value::Null);
    }
}
