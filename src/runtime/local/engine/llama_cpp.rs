//! llama.cpp's `llama-server`.

use std::{env, ffi::OsString, path::Path};

use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{
    About, Canary, Engine, EngineCommand, Limits, Placement, Readiness, Server, SetupError, has_flag, names_variable,
    openai::{EMBEDDINGS, is_ok},
    program,
};
use crate::{
    api::LocalBackend,
    runtime::local::classify::{self, Symptom},
};

const PROGRAM: &str = "llama-server";
const USUAL: &str = "/app/llama-server";

/// MiB that the server keeps of prompts whose slot was given to another. Its own choice is 8 GiB of the container's memory, also with all
/// layers on a GPU. A server that is older than the cache does not look at the variable; a flag would end it.
const CACHE: &str = "LLAMA_ARG_CACHE_RAM";
/// The part of the container's memory limit that the cache gets.
const CACHE_PART: u64 = 8;
/// What it gets without a limit, and at most.
const CACHE_UNLIMITED: u64 = 1024;
const CACHE_MOST: u64 = 8192;

/// The cache would answer the second canary.
const COMPLETIONS: Canary = Canary {
    path: "/v1/completions",
    body: r#"{"prompt":"a","max_tokens":1,"temperature":0,"cache_prompt":false}"#,
};

/// The adapter, with what it takes from the backend.
pub(super) struct LlamaCpp {
    context_length: Option<u32>,
    parallel: u32,
    gpus: bool,
    embeddings: bool,
    /// The spec says how large the cache of prompts is.
    has_cache: bool,
    args: Vec<String>,
}

impl LlamaCpp {
    pub(super) fn new(backend: &LocalBackend) -> Self {
        Self {
            context_length: backend.context_length,
            parallel: backend.parallel(),
            gpus: backend.gpus.is_some(),
            embeddings: backend
                .args
                .iter()
                .any(|arg| arg == "--embedding" || arg == "--embeddings"),
            has_cache: has_flag(&backend.args, &["--cache-ram", "-cram"]) || names_variable(backend, CACHE),
            args: backend.args.clone(),
        }
    }

    /// The server divides `--ctx-size` by its slots unless the cache is unified. With a `contextLength` every slot gets that much; without
    /// one the slots share the model's own length, and one request may have all of it.
    fn context(&self) -> Vec<OsString> {
        let slots = ["--parallel".into(), self.parallel.to_string().into()];
        let size = match self.context_length {
            Some(length) => {
                let total = u64::from(length) * u64::from(self.parallel);
                vec!["--no-kv-unified".into(), "--ctx-size".into(), total.to_string().into()]
            }
            None => vec!["--kv-unified".into(), "--ctx-size".into(), "0".into()],
        };
        slots.into_iter().chain(size).collect()
    }

    /// What the spec and the image say is left alone.
    fn cache(&self, memory: Option<u64>) -> Option<(OsString, OsString)> {
        let limited = memory.map(|bytes| bytes / CACHE_PART / (1024 * 1024));
        let size = limited.unwrap_or(CACHE_UNLIMITED).min(CACHE_MOST);
        let is_said = self.has_cache || env::var_os(CACHE).is_some();
        (!is_said).then(|| (CACHE.into(), size.to_string().into()))
    }
}

impl Server for LlamaCpp {
    fn readiness(&self) -> Readiness {
        Readiness {
            health: "/health",
            loaded: is_ok,
            canaries: if self.embeddings { &[EMBEDDINGS] } else { &[COMPLETIONS] },
            about: "/props",
        }
    }

    /// It answers whatever model a request names.
    fn about(&self, answer: &[u8], _name: &str) -> About {
        let Ok(props) = serde_json::from_slice::<Props>(answer) else {
            return About::default();
        };
        About {
            limits: Limits {
                context_length: props.default_generation_settings.n_ctx.filter(|&n| n > 0),
                parallel: props.total_slots.filter(|&n| n > 0),
            },
            model: None,
        }
    }
}

impl Engine for LlamaCpp {
    fn command(&self, place: &Placement<'_>) -> Result<EngineCommand, SetupError> {
        let program = program::find(place.program, PROGRAM, USUAL)?;
        let model = place.model.ok_or(SetupError::NoSource)?;
        let mut args: Vec<OsString> = ["--model".into(), model.into()].into();
        args.extend(["--host".into(), place.address.ip().to_string().into()]);
        args.extend(["--port".into(), place.address.port().to_string().into()]);
        args.extend(["--threads".into(), place.threads.to_string().into()]);
        args.push("--no-webui".into());
        args.extend(self.context());
        if self.gpus {
            args.extend(["--n-gpu-layers".into(), "999".into()]);
        }
        args.extend(self.args.iter().map(OsString::from));
        let mut env = vec![("LLAMA_API_KEY".into(), place.api_key.expose_secret().into())];
        env.extend(self.cache(place.memory));
        env.extend(library_path(&program).map(|path| ("LD_LIBRARY_PATH".into(), path)));
        Ok(EngineCommand { program, args, env })
    }

    /// It prints a grammar that it cannot parse as it came, over as many lines as the client wrote. Its own errors of CUDA abort it.
    fn logs_requests(&self) -> bool {
        true
    }

    /// llama-server's own log lines may hold the text of a request: what a client wrote must never convict the engine.
    fn classify(&self, line: &str) -> Option<Symptom> {
        if tells_of_a_request(line) {
            return None;
        }
        classify::common(line).or_else(|| is_error(line).then_some(Symptom::Error))
    }
}

fn tells_of_a_request(line: &str) -> bool {
    const OWN: [&str; 5] = ["srv ", "slot ", "que ", "res ", "got exception"];
    let line = unstamped(line).trim_start();
    OWN.iter().any(|own| line.starts_with(own)) || line.contains("got exception")
}

/// Without time and level: `0.00.182.956 I srv …`.
fn unstamped(line: &str) -> &str {
    let is_time = |word: &str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    match line.split_once(' ') {
        Some((time, rest)) if is_time(time) => rest.get(2..).unwrap_or_default(),
        _ => line,
    }
}

#[derive(Deserialize)]
struct Props {
    total_slots: Option<u32>,
    default_generation_settings: GenerationSettings,
}

#[derive(Deserialize)]
struct GenerationSettings {
    n_ctx: Option<u32>,
}

/// A line of level error: `0.00.008.032 E gguf_init_from_reader: …`, or of the argument parser: `error: …`.
fn is_error(line: &str) -> bool {
    line.split_whitespace().nth(1) == Some("E") || line.starts_with("error: ")
}

/// Vendors put the server's libraries beside it and rely on the working folder or the loader's configuration to find them.
fn library_path(program: &Path) -> Option<OsString> {
    let folder = program.parent()?;
    if !folder.join("libllama.so").exists() {
        return None;
    }
    let known = env::var_os("LD_LIBRARY_PATH").filter(|known| !known.is_empty());
    let folders = [folder.to_path_buf()]
        .into_iter()
        .chain(known.iter().flat_map(env::split_paths));
    env::join_paths(folders).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::local::engine::fixtures::{backend, command, words};

    fn engine(json: serde_json::Value) -> LlamaCpp {
        LlamaCpp::new(&backend("LlamaCpp", json))
    }

    fn args(json: serde_json::Value) -> String {
        let command = command(&engine(json));
        assert_eq!(command.env[0], ("LLAMA_API_KEY".into(), "sekrit".into()));
        words(&command.args)
    }

    fn cache(json: serde_json::Value, memory: Option<u64>) -> Option<String> {
        let (name, size) = engine(json).cache(memory)?;
        assert_eq!(name, "LLAMA_ARG_CACHE_RAM");
        size.into_string().ok()
    }

    #[test]
    fn the_cache_of_prompts_is_a_part_of_the_containers_memory() {
        let of = |memory| cache(serde_json::json!({}), memory).unwrap();
        assert_eq!(of(Some(2 << 30)), "256");
        assert_eq!(of(Some(512 << 30)), "8192", "no more than it would take itself");
        assert_eq!(of(Some(4 << 20)), "0", "none");
        assert_eq!(of(None), "1024");
        let command = command(&engine(serde_json::json!({})));
        assert!(command.env.contains(&("LLAMA_ARG_CACHE_RAM".into(), "2048".into())));
    }

    #[test]
    fn a_cache_of_prompts_that_the_spec_sizes_is_left_alone() {
        let variable = serde_json::json!({"env": [{"name": "LLAMA_ARG_CACHE_RAM", "value": "0"}]});
        for said in [
            serde_json::json!({"args": ["--cache-ram", "512"]}),
            serde_json::json!({"args": ["-cram", "512"]}),
            serde_json::json!({"podTemplate": variable}),
        ] {
            assert_eq!(cache(said, Some(2 << 30)), None);
        }
    }

    #[test]
    fn the_key_is_never_an_argument() {
        assert_eq!(
            args(serde_json::json!({})),
            "--model /models/m --host 127.0.0.1 --port 18000 --threads 8 --no-webui --parallel 4 --kv-unified --ctx-size 0"
        );
    }

    #[test]
    fn every_slot_gets_the_context_length() {
        let args =
            args(serde_json::json!({"contextLength": 8192, "parallel": 8, "gpus": {"count": 1}, "args": ["--mlock"]}));
        assert!(
            args.ends_with("--parallel 8 --no-kv-unified --ctx-size 65536 --n-gpu-layers 999 --mlock"),
            "{args}"
        );
    }

    #[test]
    fn reads_the_limits_of_a_real_answer() {
        let engine = engine(serde_json::json!({}));
        let props = br#"{"default_generation_settings":{"params":{"n_predict":-1},"n_ctx":512},"total_slots":2,"model_alias":"a"}"#;
        let limits = Limits {
            context_length: Some(512),
            parallel: Some(2),
        };
        assert_eq!(engine.about(props, "m"), About { limits, model: None });
        assert_eq!(engine.about(b"<html>", "m"), About::default());
    }

    #[test]
    fn an_engine_for_embeddings_has_a_canary_of_its_own() {
        let engine = engine(serde_json::json!({"args": ["--embeddings"]}));
        assert_eq!(engine.readiness().canaries, [EMBEDDINGS]);
    }

    /// llama-server logs a refused request with the client's own words in it.
    #[test]
    fn a_request_cannot_convict_the_engine() {
        let echo = r#"srv    operator(): got exception: {"error":{"code":400,"message":"response_format type must be one of \"text\" and \"json_object\", but got: CUDA error"}}"#;
        let engine = engine(serde_json::json!({}));
        assert_eq!(engine.classify(echo), None);
        assert_eq!(engine.classify(&format!("0.00.182.956 W {echo}")), None);
        assert!(engine.logs_requests(), "a grammar is printed as it came");
        assert_eq!(
            engine.classify("CUDA error: an illegal memory access was encountered"),
            Some(Symptom::Poisoned)
        );
    }
}
