//! Names and literals in SQL that is built: the only way a name gets into a statement.

/// An identifier, always quoted.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A qualified name.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}

/// A text literal that reads the same under every setting.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// The bytes that a name can have.
pub const NAME_BYTES: usize = 63;

/// `prefix`, `name` and `suffix` as one name; where that is too long `name` is cut at a character and a mark made from the
/// whole is put in, so that two long names stay two.
pub fn derived(prefix: &str, name: &str, suffix: &str) -> String {
    let whole = format!("{prefix}{name}{suffix}");
    if whole.len() <= NAME_BYTES {
        return whole;
    }
    let mark = whole
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mark = format!("_{:08x}", mark as u32);
    let room = NAME_BYTES.saturating_sub(prefix.len() + suffix.len() + mark.len());
    let mut cut = room.min(name.len());
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{prefix}{}{mark}{suffix}", &name[..cut])
}

/// If `text` is just one column name as SQL reads it (folded to lower case, or quoted), that name.
pub fn as_column(text: &str) -> Option<String> {
    // What the server's scanner takes for blanks; to it every character outside ASCII is a letter.
    let text = text.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    if let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        let name = inner.replace("\"\"", "\u{0}");
        return (!name.is_empty() && !name.contains('"')).then(|| name.replace('\u{0}', "\""));
    }
    let mut chars = text.chars();
    let first = chars.next()?;
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    if !is_letter(first) || !chars.all(|c| is_letter(c) || c.is_ascii_digit() || c == '$') {
        return None;
    }
    Some(text.chars().map(|c| c.to_ascii_lowercase()).collect())
}
