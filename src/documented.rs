//! `docs/metrics.md`, to hold metrics against it: what it says of controller and runtime, and what a registry exposes. A row is a metric's
//! name, type and labels.

const DOCUMENT: &str = include_str!("../docs/metrics.md");
const CONTROLLER: &str = "inference_controller_";

/// Rows of the controller.
pub fn controller() -> Vec<String> {
    let mut rows = rows();
    rows.retain(|row| row.starts_with(CONTROLLER));
    rows
}

/// Rows of the runtime.
pub fn runtime() -> Vec<String> {
    let mut rows = rows();
    rows.retain(|row| !row.starts_with(CONTROLLER));
    rows
}

/// Rows of the tables: `| name | type | labels | meaning |`.
fn rows() -> Vec<String> {
    let of_metrics = DOCUMENT.lines().filter(|line| line.starts_with("| `inference_"));
    sorted(of_metrics.map(|line| {
        let cells: Vec<String> = line
            .split('|')
            .skip(1)
            .map(|cell| cell.trim().replace('`', ""))
            .collect();
        cells[..3].join(" | ")
    }))
}

/// Rows of a text of metrics, in which each has a series.
pub fn exposed(text: &str) -> Vec<String> {
    let mut lines = text.lines();
    let mut rows = Vec::new();
    while let Some(line) = lines.next() {
        let Some(described) = line.strip_prefix("# TYPE ") else {
            continue;
        };
        let (name, kind) = described.split_once(' ').unwrap();
        let series = lines.find(|line| !line.starts_with('#')).unwrap();
        let labels = series
            .split_once('{')
            .map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
        let labels: Vec<&str> = labels
            .split(',')
            .map(|label| label.split('=').next().unwrap())
            .collect();
        let suffix = if kind == "counter" { "_total" } else { "" };
        rows.push(format!("{name}{suffix} | {kind} | {}", labels.join(", ")));
    }
    sorted(rows)
}

fn sorted(rows: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<String> = rows.into_iter().collect();
    rows.sort();
    rows
}
