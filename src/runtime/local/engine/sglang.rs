//! SGLang's server.

use std::ffi::OsString;

use secrecy::ExposeSecret;

use super::{
    About, Engine, EngineCommand, Placement, Readiness, Server, SetupError, gpus, has_flag, log, openai, program,
    torch_threads,
};
use crate::{api::LocalBackend, runtime::local::classify::Symptom};

const PROGRAM: &str = "python3";
const USUAL: &str = "/usr/bin/python3";
/// Port of the leader at which the parts of an engine find each other.
const PORT_GROUP: u16 = 20_000;

/// With one of these the user says how the GPUs are shared out.
const SPREAD: [&str; 9] = [
    "--tensor-parallel-size",
    "--tp-size",
    "--tp",
    "--pipeline-parallel-size",
    "--pp-size",
    "--pp",
    "--data-parallel-size",
    "--dp-size",
    "--dp",
];

/// The adapter.
pub(super) struct Sglang {
    backend: LocalBackend,
}

impl Sglang {
    pub(super) fn new(backend: &LocalBackend) -> Self {
        Self {
            backend: backend.clone(),
        }
    }

    /// Over all GPUs of all nodes.
    fn tensor_parallel(&self) -> Option<u32> {
        let all = gpus(&self.backend)?.saturating_mul(self.backend.nodes());
        Some(all).filter(|&count| count > 1 && !has_flag(&self.backend.args, &SPREAD))
    }
}

impl Server for Sglang {
    fn readiness(&self) -> Readiness {
        openai::KNOWN
    }

    fn about(&self, answer: &[u8], name: &str) -> About {
        openai::about(answer, &served(name))
    }
}

/// It keeps the colon for its own `MODEL:ADAPTER`.
fn served(name: &str) -> String {
    name.replace(':', "-")
}

impl Engine for Sglang {
    /// The user's arguments come first: of a flag that is given twice, the last one counts. The key is an argument because SGLang
    /// knows no other way; it opens only the loopback port of one context, and only this container sees its processes.
    fn command(&self, place: &Placement<'_>) -> Result<EngineCommand, SetupError> {
        let model = place.model.ok_or(SetupError::NoSource)?;
        let mut args: Vec<OsString> = vec!["-m".into(), "sglang.launch_server".into()];
        args.extend(self.backend.args.iter().map(OsString::from));
        args.extend(["--model-path".into(), model.into()]);
        let mut set = |flag: &str, value: String| args.push(format!("{flag}={value}").into());
        set("--host", place.address.ip().to_string());
        set("--port", place.address.port().to_string());
        set("--api-key", place.api_key.expose_secret().to_owned());
        set("--served-model-name", served(place.name));
        set("--max-running-requests", self.backend.parallel().to_string());
        if let Some(length) = self.backend.context_length {
            set("--context-length", length.to_string());
        }
        if let Some(count) = self.tensor_parallel() {
            set("--tp-size", count.to_string());
        }
        if let Some(group) = place.group {
            set("--nnodes", group.size.to_string());
            set("--node-rank", group.rank.to_string());
            set("--dist-init-addr", format!("{}:{PORT_GROUP}", group.leader));
        }
        // Its /health would compute a token for every look at it, and those pile up in an engine that hangs; the canary does that.
        let mut env = vec![("SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION".into(), "false".into())];
        env.extend(torch_threads(&self.backend, place.threads));
        Ok(EngineCommand {
            program: program::find(place.program, PROGRAM, USUAL)?,
            args,
            env,
        })
    }

    /// `[2026-11-23 09:14:02 TP0] TEXT`, or what Python prints. A scheduler that ends says so first, and the exception with the cause
    /// is the last line of what follows.
    fn classify(&self, line: &str) -> Option<Symptom> {
        let stamped = line.strip_prefix("[20").and_then(|rest| rest.split_once("] "));
        let text = stamped.map_or(line, |(_, text)| text);
        // A request that gives its place in the full cache to others, and waits: nothing is wrong.
        let retracts = text.contains("#retracted_reqs");
        if retracts || text.contains(" hit an exception: ") {
            return None;
        }
        log::device(text).or_else(|| {
            let fatal = log::is_exception(text) || text.starts_with("Watchdog timeout");
            let usage = log::is_usage_error(text).then_some(Symptom::Error);
            fatal.then_some(Symptom::Fatal).or(usage)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::local::engine::{
        Group,
        fixtures::{backend, cause, command, command_in, words},
    };

    fn engine(json: serde_json::Value) -> Sglang {
        Sglang::new(&backend("SGLang", json))
    }

    #[test]
    fn the_runtimes_flags_come_last() {
        let command = command(&engine(json!({
            "contextLength": 8192, "parallel": 64, "gpus": {"count": 2}, "args": ["--mem-fraction-static", "0.8"],
        })));
        assert_eq!(
            words(&command.args),
            "-m sglang.launch_server --mem-fraction-static 0.8 --model-path /models/m --host=127.0.0.1 --port=18000 \
             --api-key=sekrit --served-model-name=assistant --max-running-requests=64 --context-length=8192 --tp-size=2"
        );
        assert_eq!(
            command.env,
            [
                ("SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION".into(), "false".into()),
                ("OMP_NUM_THREADS".into(), "4".into()),
            ]
        );
    }

    #[test]
    fn a_model_is_spread_over_the_nodes_of_a_group() {
        let group = Group {
            leader: "lead.team".into(),
            size: 2,
            rank: 1,
        };
        let engine = engine(json!({"nodes": 2, "gpus": {"count": 8}}));
        let args = words(&command_in(&engine, Some(&group)).args);
        assert!(
            args.ends_with("--tp-size=16 --nnodes=2 --node-rank=1 --dist-init-addr=lead.team:20000"),
            "{args}"
        );
    }

    #[test]
    fn who_spreads_the_gpus_himself_is_left_alone() {
        for args in [json!(["--tp", "2"]), json!(["--dp-size=4"]), json!(["--pp_size", "4"])] {
            assert_eq!(
                engine(json!({"gpus": {"count": 4}, "args": args})).tensor_parallel(),
                None
            );
        }
    }

    #[test]
    fn a_name_with_a_colon_is_served_under_another() {
        let listed = br#"{"data":[{"id":"llama3-8b","max_model_len":8192}]}"#;
        assert_eq!(served("llama3:8b"), "llama3-8b");
        let about = engine(json!({})).about(listed, "llama3:8b");
        assert_eq!(
            (about.model.as_deref(), about.limits.context_length),
            (Some("llama3-8b"), Some(8192))
        );
    }

    /// In the formats of SGLang's own logger and of the traceback that follows.
    #[test]
    fn lines_are_classified() {
        let engine = engine(json!({}));
        for (line, symptom) in [
            (
                "RuntimeError: CUDA error: an illegal memory access was encountered",
                Some(Symptom::Poisoned),
            ),
            (
                "torch.AcceleratorError: CUDA error: unspecified launch failure",
                Some(Symptom::Poisoned),
            ),
            (
                "terminate called after throwing an instance of 'c10::DistBackendError'",
                None,
            ),
            (
                "  what():  [PG ID 2 Rank 1] Process group watchdog thread terminated with exception: CUDA error: an illegal memory access was encountered",
                Some(Symptom::Poisoned),
            ),
            (
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.68 GiB",
                Some(Symptom::OutOfMemory),
            ),
            (
                "[2026-11-23 09:14:02 TP0] Decode out of memory happened. #retracted_reqs: 1, #new_token_ratio: 0.4119 -> 0.8245",
                None,
            ),
            (
                "[2026-11-23 09:14:02 TP0] Prefill out of memory. Try to lower your batch size.",
                Some(Symptom::OutOfMemory),
            ),
            (
                "[2026-11-23 09:14:02 TP0] Scheduler hit an exception: Traceback (most recent call last):",
                None,
            ),
            (
                "[2026-11-23 09:14:02] Received sigquit from a child process. It usually means the child failed.",
                None,
            ),
            (
                "[2026-11-23 09:14:02 TP0] Watchdog timeout (self.watchdog_timeout=300)",
                Some(Symptom::Fatal),
            ),
            (
                "launch_server.py: error: unrecognized arguments: --colour",
                Some(Symptom::Error),
            ),
            (
                "[2026-11-23 09:14:02 TP0] Decode batch, #running-req: 5, #token: 8192, token usage: 0.13, #queue-req: 0,",
                None,
            ),
        ] {
            assert_eq!(engine.classify(line), symptom, "{line}");
        }
    }

    #[test]
    fn a_request_cannot_convict_the_engine() {
        let engine = engine(json!({}));
        for line in [
            r#"[2026-11-23 09:14:02] INFO:     127.0.0.1:33898 - "POST /v1/completions?CUDA error HTTP/1.1" 200 OK"#,
            "[2026-11-23 09:14:02] Receive: obj=GenerateReqInput(text='CUDA error: misaligned address', rid=1)",
        ] {
            assert_eq!(engine.classify(line), None, "{line}");
        }
    }

    #[test]
    fn the_cause_of_an_end_is_the_exception_after_the_announcement() {
        let cause = cause(&engine(json!({})), include_str!("logs/sglang-no-memory.log"));
        assert!(cause.contains("RuntimeError: Not enough memory"), "{cause}");
    }
}
