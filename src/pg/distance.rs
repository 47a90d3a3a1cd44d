//! How the vectors of a column are compared: the operator of the model's metric, what an index can be over, and what searches call
//! similarity. Everything that is generated takes it from here, since an index serves no other operator, and no other expression,
//! than its own.

use crate::pg::catalog::Pgvector;
use crate::pg::ident::{qualified, quote};
use autoembed_core::Model;
use autoembed_core::model::Metric;

/// Most dimensions that an index over `vector` takes.
const MAX_WHOLE: usize = 2000;
/// Most dimensions that an index over `halfvec` takes.
const MAX_HALVED: usize = 4000;

/// What an index is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indexed {
    /// The column.
    Whole,
    /// The column with components of two bytes, as an expression.
    Halved,
}

/// An operator class of the same name for either: `vector_cosine_ops`, `halfvec_cosine_ops`.
const PREFIXES: [(Indexed, &str); 2] = [(Indexed::Whole, "vector_"), (Indexed::Halved, "halfvec_")];

/// How the vectors of one column are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distance {
    metric: Metric,
    dimensions: usize,
    schema: String,
    indexed: std::result::Result<Indexed, String>,
}

impl Distance {
    /// For the vectors of `model` in a column that is limited to `column_dimensions` (-1: it is not).
    pub fn new(model: &Model, column_dimensions: i32, pgvector: &Pgvector) -> Distance {
        let dimensions = model.dimensions;
        let indexed = match dimensions {
            ..=MAX_WHOLE if column_dimensions > 0 => Ok(Indexed::Whole),
            ..=MAX_WHOLE => Err("the column has no fixed number of dimensions".to_string()),
            ..=MAX_HALVED if pgvector.has_halfvec => Ok(Indexed::Halved),
            _ if pgvector.has_halfvec => Err(format!("an HNSW index takes at most {MAX_HALVED} dimensions")),
            _ => Err(format!(
                "an HNSW index takes at most {MAX_WHOLE} dimensions with this version of pgvector, {MAX_HALVED} from 0.7 on"
            )),
        };
        Distance { metric: model.metric(), dimensions, schema: pgvector.schema.clone(), indexed }
    }

    /// Whether it is still that of `model`, which may have been changed.
    pub fn is_by(&self, model: &Model) -> bool {
        self.metric == model.metric() && self.dimensions == model.dimensions
    }

    /// What an index can be over; why there can be none.
    pub fn indexed(&self) -> std::result::Result<Indexed, &str> {
        self.indexed.as_ref().copied().map_err(String::as_str)
    }

    /// The name of the metric's operator.
    pub fn operator(&self) -> &'static str {
        match self.metric {
            Metric::Cosine => "<=>",
            Metric::InnerProduct => "<#>",
            Metric::L2 => "<->",
        }
    }

    /// The name of the operator class of an index.
    pub fn operator_class(&self) -> &'static str {
        match (self.metric, self.indexed()) {
            (Metric::Cosine, Ok(Indexed::Halved)) => "halfvec_cosine_ops",
            (Metric::InnerProduct, Ok(Indexed::Halved)) => "halfvec_ip_ops",
            (Metric::L2, Ok(Indexed::Halved)) => "halfvec_l2_ops",
            (Metric::Cosine, _) => "vector_cosine_ops",
            (Metric::InnerProduct, _) => "vector_ip_ops",
            (Metric::L2, _) => "vector_l2_ops",
        }
    }

    /// What an index over these vectors is that serves as one over the vectors of `other` does, of an operator class that may be a user's
    /// choice: for the metric, if it is for the metric there; over the same form, if both forms can be had. `None`: there can be none.
    pub fn counterpart(&self, class: &str, other: &Distance) -> Option<(Indexed, String)> {
        let form = self.indexed().ok()?;
        let Some((of, by)) = PREFIXES.iter().find_map(|(of, prefix)| Some((*of, class.strip_prefix(prefix)?))) else {
            // One of another extension's, over the column.
            return (form == Indexed::Whole).then(|| (form, class.to_string()));
        };
        let form = if of == Indexed::Halved && other.indexed() == Ok(Indexed::Whole) { of } else { form };
        let is_by_metric = other.operator_class().ends_with(&format!("_{by}"));
        let (_, prefix) = PREFIXES.iter().find(|(of, _)| *of == form)?;
        let by = if is_by_metric { self.operator_class().split_once('_')?.1 } else { by };
        Some((form, format!("{prefix}{by}")))
    }

    /// Components of each vector.
    pub fn dimensions(&self) -> i32 {
        self.dimensions as i32
    }

    fn halved(&self, vector: &str) -> String {
        format!("({vector})::{}({})", qualified(&self.schema, "halfvec"), self.dimensions)
    }

    /// The distance of two vectors, as SQL; an index over the column itself gives rows in its order.
    pub fn of(&self, column: &str, query: &str) -> String {
        format!("{column} OPERATOR({}.{}) {query}", quote(&self.schema), self.operator())
    }

    /// The same with components of two bytes: what an index over [`Indexed::Halved`] gives rows in the order of.
    pub fn of_halved(&self, column: &str, query: &str) -> String {
        self.of(&self.halved(column), &self.halved(query))
    }

    /// What an index is made over, as it stands in CREATE INDEX.
    pub fn key(&self, column: &str) -> String {
        let form = self.indexed().unwrap_or(Indexed::Whole);
        format!("{} {}", self.over(column, form), qualified(&self.schema, self.operator_class()))
    }

    /// A column in one form, as it stands in CREATE INDEX.
    pub fn over(&self, column: &str, form: Indexed) -> String {
        match form {
            Indexed::Halved => format!("({})", self.halved(&quote(column))),
            Indexed::Whole => quote(column),
        }
    }

    /// That a distance is a number: that of a vector of zeros from another is none by the cosine. It comes after all others in their order,
    /// and is greater than any of them where they are compared.
    pub fn is_number(distance: &str) -> String {
        format!("{distance} OPERATOR(pg_catalog.<>) 'NaN'::pg_catalog.float8")
    }

    /// What searches call the similarity of two vectors whose distance is `distance`: the nearer, the greater.
    pub fn similarity(&self, distance: &str) -> String {
        // They run under the reader's search_path, where others may have made operators that fit.
        const ONE: &str = "1::pg_catalog.float8";
        match self.metric {
            Metric::Cosine => format!("({ONE} OPERATOR(pg_catalog.-) {distance})"),
            // pgvector gives it with the sign changed, so that less is nearer.
            Metric::InnerProduct => format!("(0::pg_catalog.float8 OPERATOR(pg_catalog.-) {distance})"),
            Metric::L2 => format!("({ONE} OPERATOR(pg_catalog./) ({ONE} OPERATOR(pg_catalog.+) {distance}))"),
        }
    }
}
