//! Signatures as the reference writes them: `name(argument type = default, ...) -> result`.

use autoembed_tests::Db;

/// One function of the page.
#[derive(Debug)]
pub struct Signature {
    pub name: String,
    /// Name, type, and the default where there is one.
    pub arguments: Vec<(String, String, Option<String>)>,
    /// As the page has it.
    pub result: String,
}

impl Signature {
    /// All of a block; it holds nothing else.
    pub fn all(block: &str) -> Vec<Signature> {
        let mut found: Vec<String> = Vec::new();
        for line in block.lines() {
            match found.last_mut().filter(|_| line.starts_with(' ')) {
                Some(last) => {
                    last.push(' ');
                    last.push_str(line.trim());
                }
                None => found.push(line.to_owned()),
            }
        }
        found.iter().filter(|text| text.contains(") -> ")).map(|text| Signature::read(text)).collect()
    }

    fn read(text: &str) -> Signature {
        let (left, result) = text.split_once(") -> ").unwrap();
        let (name, arguments) = left.split_once('(').unwrap_or_else(|| panic!("no signature: {text}"));
        let arguments = split(arguments).iter().map(|one| argument(one)).collect();
        Signature { name: name.to_owned(), arguments, result: result.trim().to_owned() }
    }

    /// In the words that the test asks the server for.
    pub fn as_the_server_has_it(&self, db: &mut Db) -> String {
        let arguments: Vec<String> =
            self.arguments.iter().map(|(name, kind, _)| format!("{name} {}", type_of(db, kind))).collect();
        let (set, kind) =
            self.result.strip_prefix("setof ").map_or(("", self.result.as_str()), |kind| ("setof ", kind));
        let result = match kind.strip_prefix('(').and_then(|inside| inside.strip_suffix(')')) {
            Some(columns) => {
                let columns = split(columns);
                let columns = columns.iter().map(|one| argument(one));
                let columns: Vec<String> =
                    columns.map(|(name, kind, _)| format!("{name} {}", type_of(db, &kind))).collect();
                format!("({})", columns.join(", "))
            }
            None => type_of(db, kind),
        };
        let mut text = format!("({}) -> {set}{result}", arguments.join(", "));
        for (_, kind, default) in &self.arguments {
            let kind = type_of(db, kind);
            text.push_str(&value(db, default.as_deref(), &kind));
        }
        text
    }

    /// As `pg_get_function_arguments` has them.
    pub fn parameters_as_the_server_writes_them(&self, db: &mut Db) -> String {
        let one = |(name, kind, default): &(String, String, Option<String>)| {
            if kind == "columns..." {
                return format!("{name} {kind}");
            }
            let kind = type_of(db, kind);
            match default.as_deref() {
                None => format!("{name} {kind}"),
                Some(value @ "NULL") | Some(value) if value == "NULL" || value.starts_with('\'') => {
                    format!("{name} {kind} DEFAULT {value}::{kind}")
                }
                Some(value) => format!("{name} {kind} DEFAULT {value}"),
            }
        };
        self.arguments.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// What a default comes to; ` no default` where there is none.
pub fn value(db: &mut Db, default: Option<&str>, kind: &str) -> String {
    match default {
        None => "; no default".to_owned(),
        Some(default) => format!("; {}", db.text(&format!("SELECT COALESCE(({default})::{kind}::text, 'NULL')"))),
    }
}

fn type_of(db: &mut Db, kind: &str) -> String {
    db.text(&format!("SELECT '{kind}'::regtype"))
}

/// At commas outside of parentheses and quotes.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut is_quoted) = (vec![String::new()], 0, false);
    for c in text.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            '(' | '[' if !is_quoted => depth += 1,
            ')' | ']' if !is_quoted => depth -= 1,
            ',' if !is_quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn argument(text: &str) -> (String, String, Option<String>) {
    if text == "..." {
        return (text.to_owned(), String::new(), None);
    }
    let (left, default) = match text.split_once(" = ") {
        Some((left, default)) => (left, Some(default.to_owned())),
        None => (text, None),
    };
    // `since interval`: the name is the first word.
    let (name, kind) = left.split_once(' ').unwrap_or_else(|| panic!("no name and type: {text}"));
    (name.to_owned(), kind.to_owned(), default)
}
