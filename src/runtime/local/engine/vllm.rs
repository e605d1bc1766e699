//! vLLM's OpenAI-compatible server.

use std::ffi::OsString;

use secrecy::ExposeSecret;

use super::{
    About, Engine, EngineCommand, Group, Placement, Readiness, Server, SetupError, gpus, has_flag, log, openai,
    program, torch_threads,
};
use crate::{api::LocalBackend, runtime::local::classify::Symptom};

const PROGRAM: &str = "vllm";
const USUAL: &str = "/usr/local/bin/vllm";

/// Port of the leader at which the parts of an engine find each other.
const PORT_MASTER: u16 = 29_501;
/// The executor of a worker that was killed.
const WORKER_LOST: &str = "died unexpectedly, shutting down executor";

/// With one of these the user says how the GPUs are shared out.
const SPREAD: [&str; 6] = [
    "--tensor-parallel-size",
    "-tp",
    "--pipeline-parallel-size",
    "-pp",
    "--data-parallel-size",
    "-dp",
];

/// The adapter.
pub(super) struct Vllm {
    backend: LocalBackend,
}

impl Vllm {
    pub(super) fn new(backend: &LocalBackend) -> Self {
        Self {
            backend: backend.clone(),
        }
    }

    fn tensor_parallel(&self) -> Option<u32> {
        gpus(&self.backend).filter(|&count| count > 1 && !has_flag(&self.backend.args, &SPREAD))
    }

    /// One stage of the pipeline a node, for what layers say to each other within a stage is too much for a network; by processes of its
    /// own, without Ray. Parts that follow have no API.
    fn spread(&self, group: &Group, set: &mut impl FnMut(&str, String)) {
        if !has_flag(&self.backend.args, &SPREAD) {
            set("--pipeline-parallel-size", group.size.to_string());
        }
        set("--distributed-executor-backend", "mp".to_owned());
        set("--nnodes", group.size.to_string());
        set("--node-rank", group.rank.to_string());
        set("--master-addr", group.leader.clone());
        set("--master-port", PORT_MASTER.to_string());
    }
}

impl Server for Vllm {
    fn readiness(&self) -> Readiness {
        openai::KNOWN
    }

    fn about(&self, answer: &[u8], name: &str) -> About {
        openai::about(answer, name)
    }
}

impl Engine for Vllm {
    /// The user's arguments come first: of a flag that is given twice, the last one counts.
    fn command(&self, place: &Placement<'_>) -> Result<EngineCommand, SetupError> {
        let model = place.model.ok_or(SetupError::NoSource)?;
        let mut args: Vec<OsString> = vec!["serve".into(), model.into()];
        args.extend(self.backend.args.iter().map(OsString::from));
        let mut set = |flag: &str, value: String| args.push(format!("{flag}={value}").into());
        set("--host", place.address.ip().to_string());
        set("--port", place.address.port().to_string());
        set("--served-model-name", place.name.to_owned());
        set("--max-num-seqs", self.backend.parallel().to_string());
        if let Some(length) = self.backend.context_length {
            set("--max-model-len", length.to_string());
        }
        if let Some(count) = self.tensor_parallel() {
            set("--tensor-parallel-size", count.to_string());
        }
        if let Some(group) = place.group {
            self.spread(group, &mut set);
        }
        if place.group.is_some_and(Group::follows) {
            args.push("--headless".into());
        }
        let mut env = vec![("VLLM_API_KEY".into(), place.api_key.expose_secret().into())];
        env.extend(torch_threads(&self.backend, place.threads));
        Ok(EngineCommand {
            program: program::find(place.program, PROGRAM, USUAL)?,
            args,
            env,
        })
    }

    fn classify(&self, line: &str) -> Option<Symptom> {
        let line = Line::read(line);
        if matches!(line.level, Some("INFO" | "WARNING" | "DEBUG")) {
            return None;
        }
        if line.is_front {
            return of_front(&line);
        }
        // Ended by an exception, whose own line comes later and says why.
        let announces = line.text.starts_with("EngineCore encountered") || line.text.starts_with("EngineCore failed");
        if announces {
            return None;
        }
        log::device(line.text).or_else(|| {
            let fatal =
                log::is_exception(line.text) || log::is_validation(line.text) || line.text.contains(WORKER_LOST);
            let usage = log::is_usage_error(line.text).then_some(Symptom::Error);
            fatal.then_some(Symptom::Fatal).or(usage)
        })
    }
}

/// The front reads requests, so what it logs may be a client's words; of the engine it knows only that it is dead. What it does not log
/// but print is its own end.
fn of_front(line: &Line<'_>) -> Option<Symptom> {
    if line.text.contains("EngineDeadError: ") && log::is_exception(line.text) {
        return Some(Symptom::Fatal);
    }
    let own_end = log::is_exception(line.text) || log::is_validation(line.text) || log::is_usage_error(line.text);
    (line.level.is_none() && own_end).then_some(Symptom::Error)
}

/// `(EngineCore pid=374) ERROR 08-28 06:16:24 [core.py:1240] TEXT`; the process since 0.10, neither part for what libraries print.
struct Line<'a> {
    is_front: bool,
    level: Option<&'a str>,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Self {
        let process = line.strip_prefix('(').and_then(|rest| rest.split_once(") "));
        let process = process.filter(|(name, _)| name.contains(" pid="));
        let (name, rest) = process.unwrap_or(("", line));
        let (level, text) = match rest.split_once(' ') {
            Some((level @ ("DEBUG" | "INFO" | "WARNING" | "ERROR" | "CRITICAL"), after)) => {
                (Some(level), after.split_once("] ").map_or(after, |(_, text)| text))
            }
            _ => (None, rest),
        };
        Self {
            is_front: name.to_ascii_lowercase().starts_with("apiserver"),
            level,
            text,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::local::engine::fixtures::{backend, cause, command, command_in, words};

    fn engine(json: serde_json::Value) -> Vllm {
        Vllm::new(&backend("VLLM", json))
    }

    #[test]
    fn the_runtimes_flags_come_last_and_the_key_is_no_argument() {
        let command = command(&engine(json!({})));
        assert_eq!(
            words(&command.args),
            "serve /models/m --host=127.0.0.1 --port=18000 --served-model-name=assistant --max-num-seqs=256"
        );
        assert_eq!(command.env, [("VLLM_API_KEY".into(), "sekrit".into())]);
        let tuned = engine(json!({
            "contextLength": 8192, "parallel": 64, "gpus": {"count": 2}, "args": ["--enforce-eager"],
        }));
        assert_eq!(
            words(&super::super::fixtures::command(&tuned).args),
            "serve /models/m --enforce-eager --host=127.0.0.1 --port=18000 --served-model-name=assistant --max-num-seqs=64 \
             --max-model-len=8192 --tensor-parallel-size=2"
        );
    }

    #[test]
    fn a_model_is_spread_over_the_nodes_of_a_group() {
        let part = |rank: u32, args: serde_json::Value| {
            let group = Group {
                leader: "lead.team".into(),
                size: 2,
                rank,
            };
            let engine = engine(json!({"nodes": 2, "gpus": {"count": 8}, "args": args}));
            words(&command_in(&engine, Some(&group)).args)
        };
        let spread = "--tensor-parallel-size=8 --pipeline-parallel-size=2 --distributed-executor-backend=mp --nnodes=2";
        let leader = part(0, json!([]));
        assert!(
            leader.ends_with(&format!(
                "{spread} --node-rank=0 --master-addr=lead.team --master-port=29501"
            )),
            "{leader}"
        );
        let follower = part(1, json!([]));
        assert!(
            follower.ends_with(&format!(
                "{spread} --node-rank=1 --master-addr=lead.team --master-port=29501 --headless"
            )),
            "{follower}"
        );
        let own = part(0, json!(["-tp=16"]));
        assert!(!own.contains("pipeline") && own.contains("--nnodes=2"), "{own}");
    }

    #[test]
    fn who_spreads_the_gpus_himself_is_left_alone() {
        for args in [
            json!(["-pp", "2"]),
            json!(["--tensor_parallel_size=4"]),
            json!(["--data-parallel-size", "4"]),
        ] {
            let engine = engine(json!({"gpus": {"count": 4}, "args": args}));
            assert_eq!(engine.tensor_parallel(), None);
        }
    }

    #[test]
    fn threads_are_shared_out_among_the_processes_of_the_gpus() {
        let variable = |json| {
            let env = command(&engine(json)).env;
            env.into_iter()
                .find(|(name, _)| name == "OMP_NUM_THREADS")
                .map(|(_, value)| value)
        };
        assert_eq!(variable(json!({})), None, "on CPU vLLM binds its threads itself");
        assert_eq!(variable(json!({"gpus": {"count": 4}})), Some("2".into()));
        assert_eq!(variable(json!({"gpus": {"count": 16}})), Some("1".into()));
        let chosen = json!({"gpus": {"count": 1}, "podTemplate": {"env": [{"name": "OMP_NUM_THREADS", "value": "3"}]}});
        assert_eq!(variable(chosen), None);
    }

    /// In the formats of vLLM's own logger, of releases before and after it names its processes.
    #[test]
    fn lines_of_each_process_are_classified() {
        let engine = engine(json!({}));
        for (line, symptom) in [
            (
                "(EngineCore pid=31) ERROR 11-23 09:14:02 [core.py:1240] torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
                Some(Symptom::Poisoned),
            ),
            (
                "(Worker_TP1 pid=77) ERROR 11-23 09:14:02 [multiproc_executor.py:880] RuntimeError: CUDA error: unspecified launch failure",
                Some(Symptom::Poisoned),
            ),
            (
                "ERROR 10-21 06:50:21 engine.py:157] RuntimeError: CUDA error: misaligned address",
                Some(Symptom::Poisoned),
            ),
            (
                "(EngineCore_DP0 pid=31) [rank0]:[E1123 09:14:02.11 ProcessGroupNCCL.cpp:2057] [PG ID 0] Process group watchdog thread terminated with exception: CUDA error: uncorrectable ECC error encountered",
                Some(Symptom::Poisoned),
            ),
            (
                "(EngineCore pid=31) ERROR 11-23 09:14:02 [core.py:1240] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.68 GiB",
                Some(Symptom::OutOfMemory),
            ),
            (
                "(APIServer pid=1) ERROR 11-23 09:14:02 [async_llm.py:744] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.",
                Some(Symptom::Fatal),
            ),
            (
                "(EngineCore pid=31) ERROR 11-23 09:14:02 [core.py:1232] EngineCore encountered a fatal error.",
                None,
            ),
            (
                "(EngineCore pid=31) ERROR 11-23 09:14:02 [core.py:1240]   File \"/usr/lib/python3.12/site-packages/torch/cuda/streams.py\", line 224, in synchronize",
                None,
            ),
            (
                "(EngineCore pid=31) INFO 11-23 09:14:02 [gpu_worker.py:276] Available KV cache memory: 9.80 GiB",
                None,
            ),
            (
                "vllm serve: error: unrecognized arguments: --colour",
                Some(Symptom::Error),
            ),
        ] {
            assert_eq!(engine.classify(line), symptom, "{line}");
        }
    }

    /// vLLM warns of fields that it does not know, quotes what it cannot parse, and may be told to log prompts.
    #[test]
    fn a_request_cannot_convict_the_engine() {
        let engine = engine(json!({}));
        for line in [
            "(APIServer pid=1) WARNING 11-23 09:14:02 [protocol.py:98] The following fields were present in the request but ignored: {'CUDA error: an illegal memory access'}",
            "WARNING 10-21 06:50:21 [protocol.py:98] The following fields were present in the request but ignored: {'out of memory'}",
            "(APIServer pid=1) INFO 11-23 09:14:02 [logger.py:40] Received request cmpl-1: prompt: 'CUDA error: misaligned address', params: SamplingParams(n=1)",
            "(APIServer pid=1) ERROR 11-23 09:14:02 [serving_chat.py:250] jinja2.exceptions.TemplateError: CUDA error: device-side assert",
            "(APIServer pid=1) CUDA error: an illegal memory access was encountered",
            "(EngineCore pid=31) ERROR 11-23 09:14:02 [backend_xgrammar.py:160] Invalid grammar: \"CUDA error\"",
        ] {
            let found = engine.classify(line);
            assert!(
                !matches!(found, Some(Symptom::Poisoned | Symptom::OutOfMemory)),
                "{line}: {found:?}"
            );
        }
    }

    #[test]
    fn the_cause_of_an_end_is_the_engines_own_exception() {
        let engine = engine(json!({}));
        for (log, said) in [
            (
                include_str!("logs/vllm-cache-too-small.log"),
                "ValueError: To serve at least one request",
            ),
            (
                include_str!("logs/vllm-wrong-length.log"),
                "Value error, User-specified max_model_len",
            ),
            (
                include_str!("logs/vllm-worker-lost.log"),
                "Worker proc VllmWorker-0 died unexpectedly",
            ),
        ] {
            let cause = cause(&engine, log);
            assert!(cause.contains(said), "{said}: {cause}");
        }
    }
}
