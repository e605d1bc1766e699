//! What the process sees of the machine, for the tests of isolation.

use std::{collections::BTreeMap, env, fs};

use axum::Json;
use serde::Deserialize;
use serde_json::{Value, json};

fn attempt<T>(result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Paths to try.
#[derive(Deserialize)]
pub(crate) struct Paths {
    read: Vec<String>,
    write: Vec<String>,
}

pub(crate) async fn report(Json(paths): Json<Paths>) -> Json<Value> {
    let read: BTreeMap<&String, String> = paths.read.iter().map(|path| (path, attempt(fs::read(path)))).collect();
    let write: BTreeMap<&String, String> = paths
        .write
        .iter()
        .map(|path| (path, attempt(fs::write(path, "x"))))
        .collect();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|rest| rest.trim().to_owned())
    };
    Json(json!({
        "read": read,
        "write": write,
        "environment": env::vars().map(|(name, _)| name).collect::<Vec<_>>(),
        "arguments": env::args().collect::<Vec<_>>(),
        "descriptors": descriptors(),
        "noNewPrivs": field("NoNewPrivs:"),
        "pid": std::process::id(),
        "signalParent": kill_0(std::os::unix::process::parent_id()),
    }))
}

/// What the open descriptors point to.
fn descriptors() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let named = entries.map(|entry| {
        let target = fs::read_link(entry.path()).map(|path| path.display().to_string());
        (entry.file_name().display().to_string(), target.unwrap_or_default())
    });
    named.collect()
}

fn kill_0(pid: u32) -> String {
    let pid = i32::try_from(pid).map_or(nix::unistd::Pid::this(), nix::unistd::Pid::from_raw);
    match nix::sys::signal::kill(pid, None) {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}
