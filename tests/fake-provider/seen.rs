//! What the provider saw.

use std::time::Instant;

use http::HeaderMap;
use serde_json::{Map, Value, json};

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// Without its question mark.
    pub query: String,
    pub headers: HeaderMap,
    /// `Null` when it is no JSON.
    pub body: Value,
    pub at: Instant,
}

impl Seen {
    /// A header's text, empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    pub fn to_json(&self) -> Value {
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("(bytes)").into()))
            .collect();
        json!({"method": self.method, "path": self.path, "query": self.query, "headers": headers, "body": self.body})
    }
}
