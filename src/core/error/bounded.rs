//! Somebody else's JSON, as much of it as an error message can need.
//!
//! A tree of [`Value`]s takes up to thirty times the space of its text. Here a body costs its own length and a constant.

use std::cell::Cell;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::beginning;

/// Values of a whole body that are kept, of one list or object, and how deep they may lie.
const MAX_VALUES: usize = 2_000;
const MAX_ITEMS: usize = 64;
const MAX_DEPTH: usize = 8;

/// Bytes of one string, and of one field's name, that are kept.
const MAX_TEXT: usize = 8 * 1024;
const MAX_NAME: usize = 64;

/// Fields that repeat what was sent: users' texts, which belong into no message.
const ECHOES: [&str; 1] = ["input"];

/// The beginning of everything; what does not fit is read over, but has to be JSON.
pub(super) fn read(body: &[u8]) -> Result<Value, serde_json::Error> {
    let left = Cell::new(MAX_VALUES);
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = Part { left: &left, depth: 0 }.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

struct Part<'a> {
    left: &'a Cell<usize>,
    depth: usize,
}

impl Part<'_> {
    /// Room for a value inside this one that has `items` already.
    fn inner(&self, items: usize) -> Option<Self> {
        let left = self.left.get();
        (left > 0 && items < MAX_ITEMS && self.depth < MAX_DEPTH).then(|| {
            self.left.set(left - 1);
            Self { left: self.left, depth: self.depth + 1 }
        })
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(beginning(text, MAX_TEXT).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        loop {
            let more = match self.inner(kept.len()) {
                Some(part) => list.next_element_seed(part)?.map(|value| kept.push(value)),
                None => list.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            if more.is_none() {
                return Ok(Value::Array(kept));
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(Name(name)) = object.next_key()? {
            match self.inner(kept.len()).filter(|_| !ECHOES.contains(&name.as_str())) {
                Some(part) => {
                    let value = object.next_value_seed(part)?;
                    kept.insert(name, value);
                }
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(kept))
    }
}

/// A field's name; those that are looked for are short.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Short;
        impl Visitor<'_> for Short {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                Ok(Name(beginning(text, MAX_NAME).to_owned()))
            }
        }
        deserializer.deserialize_str(Short)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn small_bodies_are_kept_whole() {
        let value = json!({"a": [1, -2, 2.5, "x", null, true, {"b": {}}], "c": "ä\u{0}\"", "d": []});
        assert_eq!(read(value.to_string().as_bytes()).unwrap(), value);
        assert_eq!(read(b" 7 ").unwrap(), json!(7));
    }

    #[test]
    fn the_rest_is_read_over_but_has_to_be_json() {
        let many = format!("{{\"many\":[{}0],\"message\":\"m\"}}", "1,".repeat(100_000));
        let value = read(many.as_bytes()).unwrap();
        assert_eq!(value["many"].as_array().unwrap().len(), MAX_ITEMS);
        assert_eq!(value["message"], "m");
        assert!(read(many.replace("1,0]", "1,x]").as_bytes()).is_err());
        assert!(read(b"{} {}").is_err());

        let long = read(json!(["ä".repeat(MAX_TEXT)]).to_string().as_bytes()).unwrap();
        assert_eq!(long[0].as_str().unwrap().len(), MAX_TEXT);

        let deep = format!("{}7{}", "[".repeat(50), "]".repeat(50));
        assert!(!read(deep.as_bytes()).unwrap().to_string().contains('7'));
    }

    #[test]
    fn values_are_counted_over_the_whole_body() {
        fn count(value: &Value) -> usize {
            1 + match value {
                Value::Array(list) => list.iter().map(count).sum(),
                Value::Object(object) => object.values().map(count).sum(),
                _ => 0,
            }
        }
        let row = json!(vec![0; 64]);
        let wide = json!({"error": vec![row; 64]}).to_string();
        assert_eq!(count(&read(wide.as_bytes()).unwrap()), MAX_VALUES + 1);
    }

    #[test]
    fn what_repeats_the_request_is_left_out() {
        let body = json!({"detail": [{"msg": "too short", "input": ["secret text"]}], "input": "secret text"});
        assert_eq!(read(body.to_string().as_bytes()).unwrap(), json!({"detail": [{"msg": "too short"}]}));
    }
}
