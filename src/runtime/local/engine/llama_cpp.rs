//! llama.cpp's `llama-server`.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{Engine, EngineCommand, Limits, Placement, Readiness, SetupError};
use crate::{
    api::LocalBackend,
    runtime::local::classify::{self, Symptom},
};

const PROGRAM: &str = "llama-server";
const USUAL: &str = "/app/llama-server";

/// Flags that the runtime sets, with the field to use instead. The server's own key, certificates and prefix would lock the runtime out.
const RESERVED: [(&str, &str); 16] = [
    ("--host", ""),
    ("--port", ""),
    ("--model", ": use source"),
    ("-m", ": use source"),
    ("--model-url", ": use source"),
    ("-mu", ": use source"),
    ("--hf-repo", ": use source"),
    ("-hf", ": use source"),
    ("--api-key", ": use access"),
    ("--api-key-file", ": use access"),
    ("--ssl-key-file", ""),
    ("--ssl-cert-file", ""),
    ("--api-prefix", ""),
    ("--ctx-size", ": use contextLength"),
    ("-c", ": use contextLength"),
    ("--parallel", ": use parallel"),
];

/// The adapter, with what it takes from the backend.
pub(super) struct LlamaCpp {
    context_length: Option<u32>,
    parallel: u32,
    gpus: bool,
    embeddings: bool,
    args: Vec<String>,
}

impl LlamaCpp {
    pub(super) fn new(backend: &LocalBackend) -> Result<Self, SetupError> {
        refuse_reserved(&backend.args)?;
        Ok(Self {
            context_length: backend.context_length,
            parallel: backend.parallel(),
            gpus: backend.gpus.is_some(),
            embeddings: backend
                .args
                .iter()
                .any(|arg| arg == "--embedding" || arg == "--embeddings"),
            args: backend.args.clone(),
        })
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
}

fn refuse_reserved(args: &[String]) -> Result<(), SetupError> {
    for arg in args {
        let name = arg.split('=').next().unwrap_or(arg);
        let reserved = RESERVED.iter().find(|(flag, _)| *flag == name);
        let short = (name == "-np").then_some(&("-np", ": use parallel"));
        if let Some((_, instead)) = reserved.or(short) {
            return Err(SetupError::ReservedFlag {
                flag: name.to_owned(),
                instead,
            });
        }
    }
    Ok(())
}

impl Engine for LlamaCpp {
    fn command(&self, place: &Placement<'_>) -> Result<EngineCommand, SetupError> {
        let program = match place.program {
            Some(program) => program.to_path_buf(),
            None => find(env::var_os("PATH").as_deref()).ok_or(SetupError::NoProgram {
                program: PROGRAM,
                usual: USUAL,
            })?,
        };
        let mut args: Vec<OsString> = ["--model".into(), place.model.into()].into();
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
        env.extend(library_path(&program).map(|path| ("LD_LIBRARY_PATH".into(), path)));
        Ok(EngineCommand { program, args, env })
    }

    fn readiness(&self) -> Readiness {
        let (canary, canary_body) = if self.embeddings {
            ("/v1/embeddings", r#"{"input":"a"}"#)
        } else {
            (
                "/v1/completions",
                r#"{"prompt":"a","max_tokens":1,"temperature":0,"cache_prompt":false}"#,
            )
        };
        Readiness {
            health: "/health",
            canary,
            canary_body,
            limits: "/props",
        }
    }

    fn limits(&self, answer: &[u8]) -> Limits {
        let Ok(props) = serde_json::from_slice::<Props>(answer) else {
            return Limits::default();
        };
        Limits {
            context_length: props.default_generation_settings.n_ctx.filter(|&n| n > 0),
            parallel: props.total_slots.filter(|&n| n > 0),
        }
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
    let line = line.trim_start();
    OWN.iter().any(|own| line.starts_with(own)) || line.contains("got exception")
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

fn find(path: Option<&OsStr>) -> Option<PathBuf> {
    let in_path = path
        .into_iter()
        .flat_map(env::split_paths)
        .map(|folder| folder.join(PROGRAM));
    in_path.chain([USUAL.into()]).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
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
    use secrecy::SecretString;

    use super::*;
    use crate::api::EngineKind;

    fn backend(json: serde_json::Value) -> LocalBackend {
        let mut whole = serde_json::json!({"engine": "LlamaCpp"});
        whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn args(json: serde_json::Value) -> String {
        let command = LlamaCpp::new(&backend(json))
            .unwrap()
            .command(&Placement {
                address: ([127, 0, 0, 1], 18_000).into(),
                api_key: &SecretString::from("sekrit"),
                model: Path::new("/models/a.gguf"),
                program: Some(Path::new("/opt/llama-server")),
                threads: 3,
            })
            .unwrap();
        assert_eq!(command.env, [("LLAMA_API_KEY".into(), "sekrit".into())]);
        command.args.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn the_key_is_never_an_argument() {
        assert_eq!(
            args(serde_json::json!({})),
            "--model /models/a.gguf --host 127.0.0.1 --port 18000 --threads 3 --no-webui --parallel 4 --kv-unified --ctx-size 0"
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
    fn flags_of_the_runtime_are_refused_by_name() {
        for (flag, fix) in [
            ("--port", "args: --port is set by the runtime; remove it"),
            ("--port=1", "args: --port is set by the runtime; remove it"),
            ("-c", "args: -c is set by the runtime; remove it: use contextLength"),
            ("-np", "args: -np is set by the runtime; remove it: use parallel"),
        ] {
            let error = LlamaCpp::new(&backend(serde_json::json!({"args": [flag]})))
                .err()
                .unwrap();
            assert_eq!(error.to_string(), fix);
        }
    }

    #[test]
    fn other_engines_are_refused_by_name() {
        let error = super::super::adapter(&backend(serde_json::json!({"engine": "VLLM"}))).err();
        assert_eq!(error, Some(SetupError::UnsupportedEngine(EngineKind::VLLM)));
    }

    #[test]
    fn reads_the_limits_of_a_real_answer() {
        let engine = LlamaCpp::new(&backend(serde_json::json!({}))).unwrap();
        let props = br#"{"default_generation_settings":{"params":{"n_predict":-1},"n_ctx":512},"total_slots":2,"model_alias":"a"}"#;
        assert_eq!(
            engine.limits(props),
            Limits {
                context_length: Some(512),
                parallel: Some(2)
            }
        );
        assert_eq!(engine.limits(b"<html>"), Limits::default());
    }

    #[test]
    fn an_engine_for_embeddings_has_a_canary_of_its_own() {
        let engine = LlamaCpp::new(&backend(serde_json::json!({"args": ["--embeddings"]}))).unwrap();
        assert_eq!(engine.readiness().canary, "/v1/embeddings");
    }

    /// llama-server logs a refused request with the client's own words in it.
    #[test]
    fn a_request_cannot_convict_the_engine() {
        let echo = r#"srv    operator(): got exception: {"error":{"code":400,"message":"response_format type must be one of \"text\" and \"json_object\", but got: CUDA error"}}"#;
        let engine = LlamaCpp::new(&backend(serde_json::json!({}))).unwrap();
        assert_eq!(engine.classify(echo), None);
        assert_eq!(
            engine.classify("CUDA error: an illegal memory access was encountered"),
            Some(Symptom::Poisoned)
        );
    }
}
