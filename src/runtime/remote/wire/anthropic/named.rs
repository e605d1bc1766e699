//! JSON read into types, with the path of what is wrong.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::runtime::remote::wire::Inexpressible;

/// What is said of a field that Anthropic does not have.
pub(super) const NOT_OFFERED: &str = "is not offered by Anthropic: leave it out";

/// An error at a field.
pub(super) fn wrong(field: impl Into<String>, message: impl Into<String>) -> Inexpressible {
    Inexpressible {
        field: field.into(),
        message: message.into(),
    }
}

/// A JSON object, and nothing else: derived structs would take an array for one.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Reads a body. Paths cost an allocation a key, so they are only kept by a second reading, when the first one failed.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Inexpressible> {
    serde_json::from_slice::<Object<T>>(body)
        .map(|object| object.0)
        .or_else(|_| parse_with_paths(body))
}

fn parse_with_paths<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Inexpressible> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value: Object<T> = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        located(&path, &error.into_inner())
    })?;
    json.end().map_err(|error| located(".", &error))?;
    Ok(value.0)
}

/// The kinds of serde's errors that name a field themselves.
const UNKNOWN: &str = "unknown field `";
const MISSING: &str = "missing field `";
const DUPLICATE: &str = "duplicate field `";

fn located(path: &str, error: &serde_json::Error) -> Inexpressible {
    let text = error.to_string();
    let said = |kind: &str| text.strip_prefix(kind).and_then(|rest| rest.split('`').next());
    if let Some(name) = said(UNKNOWN) {
        wrong(below(path, name), NOT_OFFERED)
    } else if let Some(name) = said(MISSING) {
        wrong(below(path, name), "is required")
    } else if let Some(name) = said(DUPLICATE) {
        wrong(below(path, name), "is given twice: keep one")
    } else {
        let field = if path == "." { "the body" } else { path };
        wrong(field, format!("cannot be read: {text}"))
    }
}

/// The path of a field of the object at `path`, which may end in that field already.
fn below(path: &str, name: &str) -> String {
    let ends = path
        .strip_suffix(name)
        .is_some_and(|head| head.is_empty() || head.ends_with('.'));
    match path {
        "." => name.to_owned(),
        _ if ends => path.to_owned(),
        _ => format!("{path}.{name}"),
    }
}
