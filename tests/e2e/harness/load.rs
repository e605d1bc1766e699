//! Many clients at once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;

use super::post;

/// How requests ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By HTTP status and `error.code`, which is empty for an answer; `0` and the words for a broken connection.
    pub outcomes: BTreeMap<(u16, String), usize>,
}

impl Tally {
    /// Requests that were answered.
    pub fn answered(&self) -> usize {
        self.of(200, "")
    }

    /// Requests with this end.
    pub fn of(&self, status: u16, code: &str) -> usize {
        self.outcomes.get(&(status, code.to_owned())).copied().unwrap_or(0)
    }
}

/// Sends `count` requests, `concurrency` at a time, each over a connection of its own, so that a Service spreads them over its pods.
pub async fn load(url: &str, body: &Value, count: usize, concurrency: usize) -> Tally {
    let next = Arc::new(AtomicUsize::new(0));
    let clients = (0..concurrency.min(count)).map(|_| {
        let (url, body, next) = (url.to_owned(), body.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut ends = Vec::new();
            while next.fetch_add(1, Ordering::SeqCst) < count {
                ends.push(end(&url, &body).await);
            }
            ends
        })
    });
    let mut tally = Tally::default();
    for client in clients.collect::<Vec<_>>() {
        for end in client.await.expect("no panic") {
            *tally.outcomes.entry(end).or_default() += 1;
        }
    }
    tally
}

async fn end(url: &str, body: &Value) -> (u16, String) {
    match post(url, body).await {
        Ok(answer) if answer.status.is_success() => (answer.status.as_u16(), String::new()),
        Ok(answer) => (answer.status.as_u16(), answer.code()),
        Err(words) => (0, words),
    }
}
