//! What both fake driver libraries do: plain files in the folder `FAKE_GPU`, read at every call, so that a test changes them at any time.
//!
//! - `calls`: lines `FUNCTION=ANSWER` or `FUNCTION@N=ANSWER`, the Nth call of a process only. ANSWER is a code, `hang` or `abort`.
//! - `devices`: lines `UUID USED TOTAL`, without the prefix `GPU-`, in bytes; one device when absent, none when blank.
//! - `recovery`: the recovery action of every device; none is told when absent.
//! - `xids`: lines `DEVICE XID`; a process gets those that come while it watches.
//!
//! `log` gets a line `PID FUNCTION` a call.
#![allow(dead_code, reason = "each library uses its own part of it")]

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

/// Calls so far, by function.
static CALLS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// A file of the folder; empty when it is not there.
pub fn read(name: &str) -> String {
    folder()
        .and_then(|folder| fs::read_to_string(folder.join(name)).ok())
        .unwrap_or_default()
}

fn folder() -> Option<PathBuf> {
    std::env::var_os("FAKE_GPU").map(PathBuf::from)
}

/// A device: UUID, bytes in use, bytes in all.
pub struct Device {
    pub uuid: String,
    pub used: u64,
    pub total: u64,
}

/// The devices.
pub fn devices() -> Vec<Device> {
    let text = read("devices");
    let text = if text.is_empty() {
        "00112233-4455-6677-8899-aabbccddeeff 1000 80000000000".to_owned()
    } else {
        text
    };
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let number = |words: &mut std::str::SplitWhitespace<'_>| {
                words.next().and_then(|word| word.parse().ok()).unwrap_or(0)
            };
            Device {
                uuid: words.next().unwrap_or_default().to_owned(),
                used: number(&mut words),
                total: number(&mut words),
            }
        })
        .collect()
}

/// What the script says of this call of `function`: a code that is not 0, or nothing. Does not return from a hang.
pub fn answer(function: &str) -> Option<i32> {
    let number = {
        let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
        let number = calls.entry(function.to_owned()).or_default();
        *number += 1;
        *number
    };
    log(function);
    let script = read("calls");
    let told = script.lines().find_map(|line| {
        let (call, answer) = line.split_once('=')?;
        let (name, nth) = call.split_once('@').unwrap_or((call, ""));
        (name == function && (nth.is_empty() || nth.parse() == Ok(number))).then_some(answer)
    })?;
    match told {
        "abort" => std::process::abort(),
        "hang" => loop {
            thread::sleep(Duration::from_secs(60 * 60));
        },
        code => Some(code.parse().unwrap_or(1)).filter(|code| *code != 0),
    }
}

fn log(function: &str) {
    let Some(folder) = folder() else { return };
    let file = OpenOptions::new().create(true).append(true).open(folder.join("log"));
    if let Ok(mut file) = file {
        let _ = file.write_all(format!("{} {function}\n", std::process::id()).as_bytes());
    }
}
