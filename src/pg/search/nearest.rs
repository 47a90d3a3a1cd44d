//! The statements that find the rows nearest to a vector.

use crate::pg::distance::Distance;
use crate::pg::error::Result;
use crate::pg::ident::quote;
use crate::pg::search::Known;

/// Where policies let no more rows through than these, all of them are read: a scan of the index would come by the rows of others that
/// are near the query, and its time would tell of them. Beyond it the index is what makes a search possible.
const FEW_VISIBLE: i32 = 10_000;

/// A common table expression that tells whether no more than `FEW_VISIBLE` rows come from `rows`, for [`IF_MANY`]; with its comma.
pub fn few_visible(rows: &str) -> String {
    format!(
        "autoembed_few AS MATERIALIZED (SELECT pg_catalog.count(*) OPERATOR(pg_catalog.<=) {FEW_VISIBLE}::pg_catalog.int8 AS autoembed_is \
           FROM (SELECT FROM {rows} LIMIT {}) autoembed_l), ",
        FEW_VISIBLE + 1
    )
}

/// The condition of a way that is not taken where few rows are visible. The server looks at it before it begins.
pub const IF_MANY: &str = " AND NOT (SELECT autoembed_few.autoembed_is FROM autoembed_few)";
/// The opposite of [`IF_MANY`].
pub const IF_FEW: &str = " AND (SELECT autoembed_few.autoembed_is FROM autoembed_few)";

/// The parts that statements about one table's rows are put together from.
struct Nearest<'a> {
    known: &'a Known,
    /// The vector column.
    vector: String,
    /// The vector that rows are compared with, as SQL.
    query: &'a str,
    /// What rows must pass, as ` AND ...`.
    condition: &'a str,
}

impl Nearest<'_> {
    /// How far a row is, by the whole vectors.
    fn exact(&self) -> String {
        self.known.distance.of(&self.vector, self.query)
    }

    /// The first rows in one order, with their keys, texts and distances.
    fn rows(&self, order: &str, limit: &str, gate: &str) -> Result<String> {
        let (table, Nearest { vector, query, condition, .. }) = (&self.known.table, self);
        let name = table.sql();
        let keys = table.key.iter().enumerate().map(|(i, c)| format!("{name}.{} AS autoembed_k{i}", quote(&c.name)));
        Ok(format!(
            "SELECT {keys}, ({input})::pg_catalog.text AS autoembed_i, {exact} AS autoembed_d FROM {from} \
             WHERE {vector} IS NOT NULL AND {query} IS NOT NULL{condition}{gate} ORDER BY {order} LIMIT {limit}",
            keys = keys.collect::<Vec<_>>().join(", "),
            input = self.known.input()?,
            exact = self.exact(),
            from = table.source_sql(),
        ))
    }

    /// The first rows in the order that an index gives; with components of two bytes more of them than `limit`, for they put near neighbours in
    /// another order at times.
    fn candidates(&self, limit: &str, gate: &str) -> Result<String> {
        if !self.known.is_halved {
            return self.rows(&self.exact(), limit, gate);
        }
        let more = format!(
            "({limit}::pg_catalog.int8 OPERATOR(pg_catalog.*) 2::pg_catalog.int8 OPERATOR(pg_catalog.+) 10::pg_catalog.int8)"
        );
        self.rows(&self.known.distance.of_halved(&self.vector, self.query), &more, gate)
    }

    /// The first `limit` rows in the order that an index gives, ranked by the whole vectors.
    fn by_index(&self, limit: &str, gate: &str) -> Result<String> {
        let candidates = self.candidates(limit, gate)?;
        Ok(match self.known.is_halved {
            false => candidates,
            true => format!(
                "SELECT autoembed_c.* FROM ({candidates}) autoembed_c ORDER BY autoembed_c.autoembed_d LIMIT {limit}"
            ),
        })
    }

    /// The same in an order that no index has: by an expression.
    fn by_table(&self) -> Result<String> {
        self.rows(&format!("{} OPERATOR(pg_catalog.+) 0::pg_catalog.float8", self.exact()), "$2", "")
    }
}

/// What is shown of `autoembed_s`: its key, text and similarity; and the similarity alone.
fn shown(known: &Known) -> (String, String) {
    let key = (0..known.table.key.len()).map(|i| format!("autoembed_s.autoembed_k{i}")).collect::<Vec<_>>().join(", ");
    let similarity = format!("{}::pg_catalog.float4", known.distance.similarity("autoembed_s.autoembed_d"));
    (format!("{key}, autoembed_s.autoembed_i, {similarity}"), similarity)
}

/// The k rows nearest to `query` that pass `condition`, or `all` that do: their keys, texts and similarities.
pub fn nearest(known: &Known, query: &str, condition: &str, all: bool) -> Result<String> {
    let vector = known.vector()?;
    let (few, gate) = match known.hides_rows {
        true => (few_visible(&format!("{} WHERE {vector} IS NOT NULL{condition}", known.table.source_sql())), IF_MANY),
        false => (String::new(), ""),
    };
    let rows = Nearest { known, vector, query, condition };
    const COUNT: &str = "(SELECT pg_catalog.count(*) FROM autoembed_found)";
    let found = if all {
        rows.by_table()?
    } else {
        // A scan of an index ends at its limit of memory, or where its graph has no way on: rows whose vectors are alike are linked to each
        // other alone, and rows that were deleted leave gaps. What it has not found then is looked for in the table, which is not begun else.
        format!(
            "WITH {few}autoembed_found AS MATERIALIZED ({}) \
             SELECT autoembed_f.* FROM autoembed_found autoembed_f WHERE {COUNT} OPERATOR(pg_catalog.>=) $2::pg_catalog.int8 \
             UNION ALL (SELECT autoembed_a.* FROM ({}) autoembed_a WHERE {COUNT} OPERATOR(pg_catalog.<) $2::pg_catalog.int8)",
            rows.by_index("$2", gate)?,
            rows.by_table()?,
        )
    };
    // Compared as it is shown: what was seen as a similarity can be asked for as the least one.
    let (shown, similarity) = shown(known);
    Ok(format!(
        "SELECT {shown} FROM ({found}) autoembed_s \
         WHERE {} AND ($3 IS NULL OR {similarity} OPERATOR(pg_catalog.>=) $3) ORDER BY autoembed_s.autoembed_d",
        Distance::is_number("autoembed_s.autoembed_d"),
    ))
}

/// How many rows are looked at for the k nearest.
pub fn candidates(known: &Known, k: i32) -> i32 {
    if known.is_halved { k.saturating_mul(2).saturating_add(10) } else { k }
}

/// The rows nearest to `$1` that one pass of an index finds, [`candidates`] at most, the nearest first: as many as there are where they are found
/// so. Those whose distance is no number are among them.
pub fn first(known: &Known, k: i32) -> Result<String> {
    let rows = Nearest { known, vector: known.vector()?, query: "$1", condition: "" };
    let found = rows.candidates(&k.to_string(), "")?;
    Ok(format!("SELECT {} FROM ({found}) autoembed_s ORDER BY autoembed_s.autoembed_d", shown(known).0))
}
