//! The recorded errors of providers, `tests/data/provider-errors.tsv`.

use super::{
    act::{Act, Ending},
    play::{Body, Reply},
};

const TABLE: &str = include_str!("../data/provider-errors.tsv");

/// One row; its columns are explained in design section 12.
#[derive(Clone, Debug)]
pub struct Row {
    pub provider: &'static str,
    pub condition: &'static str,
    /// 0 for a transport event.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// `Ok` for negative controls.
    pub variant: &'static str,
    pub retryable: bool,
    /// `yes`, `no` or `credential`.
    pub circuit: &'static str,
    pub wait_ms: Option<u64>,
    /// `no` or `maybe`; empty in a table without that column.
    pub billed: &'static str,
}

impl Row {
    /// `PROVIDER/CONDITION`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider, self.condition)
    }

    /// Whether its body is a stream.
    pub fn streams(&self) -> bool {
        self.headers
            .iter()
            .any(|(name, value)| name == "content-type" && value.starts_with("text/event-stream"))
    }

    /// What goes over the wire. A stream's pieces are its events.
    pub fn reply(&self) -> Reply {
        let mut headers = self.headers.clone();
        if !headers.iter().any(|(name, _)| name == "content-type") {
            headers.push(("content-type".into(), "application/json".into()));
        }
        let body = if self.streams() {
            Body::Stream(self.body.split_inclusive("\n\n").map(str::to_owned).collect())
        } else {
            Body::Whole(self.body.clone())
        };
        Reply {
            status: self.status.max(200),
            headers,
            body,
        }
    }

    /// What its transport does besides the bytes.
    pub fn faults(&self) -> Act {
        let mut act = Act::default();
        match self.condition {
            "reset_before_headers" => act.before_head = Some(Ending::Reset),
            "stream_idle_timeout" => {
                act.flood = Some(super::act::Flood::Comments);
                act.gap_ms = 20;
            }
            _ => {}
        }
        act
    }
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let mut lines = TABLE.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    lines.map(|line| row(&names, line)).collect()
}

/// The row of a name.
pub fn find(name: &str) -> Option<Row> {
    rows().into_iter().find(|row| row.name() == name)
}

fn row(names: &[&str], line: &'static str) -> Row {
    let cells: Vec<&'static str> = line.split('\t').collect();
    let cell = |name: &str| {
        let at = names.iter().position(|n| *n == name);
        at.and_then(|at| cells.get(at).copied()).unwrap_or_default()
    };
    let headers = headers(cell("headers"));
    let streams = headers.iter().any(|(_, value)| value.starts_with("text/event-stream"));
    let body = cell("body");
    Row {
        provider: cell("provider"),
        condition: cell("condition"),
        status: cell("http_status").parse().unwrap_or(0),
        headers,
        // In the table a stream's line ends are written as in a string; those inside of JSON stay as they are.
        body: if streams {
            body.replace("\\n", "\n")
        } else {
            body.to_owned()
        },
        variant: cell("expected_variant"),
        retryable: cell("retryable") == "yes",
        circuit: cell("counts_as_circuit_failure"),
        wait_ms: cell("expected_retry_after_ms").parse().ok(),
        billed: cell("billed"),
    }
}

fn headers(cell: &str) -> Vec<(String, String)> {
    let pairs = cell.split(" | ").filter_map(|pair| pair.split_once(": "));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
