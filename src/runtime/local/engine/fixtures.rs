//! What the adapters' tests share.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::ExitStatus,
};

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Engine, EngineCommand, Group, Placement};
use crate::{
    api::LocalBackend,
    runtime::local::{classify::Evidence, said},
};

/// A backend of `engine` with the fields of `json`.
pub fn backend(engine: &str, json: Value) -> LocalBackend {
    let mut whole = json!({"engine": engine, "source": {"image": {"reference": "m:1", "path": "m"}}});
    whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

/// What is run of it in a pod.
pub fn command(engine: &dyn Engine) -> EngineCommand {
    command_in(engine, None)
}

/// What is run of it in a pod of a group.
pub fn command_in(engine: &dyn Engine, group: Option<&Group>) -> EngineCommand {
    engine
        .command(&Placement {
            address: ([127, 0, 0, 1], 18_000).into(),
            api_key: &SecretString::from("sekrit"),
            model: Some(Path::new("/models/m")),
            name: "assistant",
            program: Some(Path::new("/opt/engine")),
            group,
            threads: 8,
            memory: Some(16 << 30),
        })
        .unwrap()
}

/// Arguments as one text.
pub fn words(args: &[OsString]) -> String {
    args.join(OsStr::new(" ")).into_string().unwrap()
}

/// What is said of an engine that logged this and ended with status 0, as vLLM does when its engine is dead.
pub fn cause(engine: &dyn Engine, log: &str) -> String {
    let mut evidence = Evidence::default();
    for line in log.lines() {
        evidence.note(engine.classify(line), line);
    }
    said(&evidence.ending(ExitStatus::from_raw(0), false).error)
}
