//! What an engine gets from the runtime and therefore not from a user: flags and variables of its environment, by engine, and the
//! variables that the command of engine `Custom` may name.

use crate::api::{EngineKind, LocalBackend};

/// A flag that the runtime sets, and the field to use instead; empty where there is none.
pub type OwnFlag = (&'static str, &'static str);

const LLAMA_CPP: [OwnFlag; 27] = [
    ("--host", ""),
    ("--port", ""),
    ("--model", "source"),
    ("-m", "source"),
    ("--model-url", "source"),
    ("-mu", "source"),
    ("--hf-repo", "source"),
    ("-hf", "source"),
    ("-hfr", "source"),
    ("--hf-file", "source"),
    ("-hff", "source"),
    // The server's own keys, certificates and prefix would lock the runtime out.
    ("--api-key", "access"),
    ("--api-key-file", "access"),
    ("--ssl-key-file", ""),
    ("--ssl-cert-file", ""),
    ("--api-prefix", ""),
    ("--ctx-size", "contextLength"),
    ("-c", "contextLength"),
    ("--kv-unified", "contextLength"),
    ("-kvu", "contextLength"),
    ("--no-kv-unified", "contextLength"),
    ("-no-kvu", "contextLength"),
    ("--parallel", "parallel"),
    ("-np", "parallel"),
    ("--threads", "resources.limits.cpu"),
    ("-t", "resources.limits.cpu"),
    ("--no-webui", ""),
];

const VLLM: [OwnFlag; 16] = [
    ("--host", ""),
    ("--port", ""),
    ("--uds", ""),
    ("--model", "source"),
    ("--served-model-name", "spec.model"),
    ("--max-model-len", "contextLength"),
    ("--max-num-seqs", "parallel"),
    ("--api-key", "access"),
    ("--ssl-keyfile", ""),
    ("--ssl-certfile", ""),
    ("--nnodes", "nodes"),
    ("--node-rank", "nodes"),
    ("--master-addr", "nodes"),
    ("--master-port", "nodes"),
    // Both take away the API that the runtime asks.
    ("--headless", ""),
    ("--grpc", ""),
];

const SGLANG: [OwnFlag; 16] = [
    ("--host", ""),
    ("--port", ""),
    ("--model-path", "source"),
    ("--model", "source"),
    ("--served-model-name", "spec.model"),
    ("--context-length", "contextLength"),
    ("--max-running-requests", "parallel"),
    ("--api-key", "access"),
    ("--ssl-keyfile", ""),
    ("--ssl-certfile", ""),
    ("--nnodes", "nodes"),
    ("--node-rank", "nodes"),
    ("--dist-init-addr", "nodes"),
    ("--nccl-init-addr", "nodes"),
    ("--grpc-mode", ""),
    ("--smg-grpc-mode", ""),
];

/// An argument that the runtime sets itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} is set by the runtime; remove it{}", hint(.instead))]
pub struct Reserved {
    /// Place in the list of arguments.
    pub index: usize,
    /// The flag as written.
    pub flag: String,
    /// The field to use instead; empty where there is none.
    pub instead: &'static str,
}

fn hint(field: &str) -> String {
    match field {
        "" => String::new(),
        field => format!(" and use {field}"),
    }
}

/// The arguments among `args` that the runtime gives `engine` itself.
pub fn reserved(engine: EngineKind, args: &[String]) -> impl Iterator<Item = Reserved> {
    args.iter().enumerate().filter_map(move |(index, argument)| {
        let written = argument.split_once('=').map_or(argument.as_str(), |(flag, _)| flag);
        let &(_, instead) = own_flags(engine).iter().find(|(own, _)| names(engine, written, own))?;
        Some(Reserved {
            index,
            flag: written.to_owned(),
            instead,
        })
    })
}

/// The flags that the runtime gives `engine` itself.
#[must_use]
pub const fn own_flags(engine: EngineKind) -> &'static [OwnFlag] {
    match engine {
        EngineKind::LlamaCpp => &LLAMA_CPP,
        EngineKind::VLLM => &VLLM,
        EngineKind::SGLang => &SGLANG,
        EngineKind::Custom | EngineKind::External => &[],
    }
}

/// Whether `engine` takes `written` for its flag `own`. All of them take `_` for `-`; Python's parser also takes the beginning of a flag.
fn names(engine: EngineKind, written: &str, own: &str) -> bool {
    let dashed = written.replace('_', "-");
    let shortened = matches!(engine, EngineKind::VLLM | EngineKind::SGLang) && dashed.len() > "--".len();
    dashed == own || (shortened && dashed.starts_with("--") && own.starts_with(&dashed))
}

/// Whether the runtime sets the variable `name` in the environment of `engine`.
#[must_use]
pub fn is_own_variable(engine: EngineKind, name: &str) -> bool {
    match engine {
        EngineKind::LlamaCpp => name == "LLAMA_API_KEY",
        EngineKind::VLLM => name == "VLLM_API_KEY",
        EngineKind::SGLang => name == "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION",
        EngineKind::Custom => Variable::ALL.iter().any(|variable| variable.name() == name),
        EngineKind::External => false,
    }
}

/// What the command of engine `Custom` is told: as `$(NAME)` in `command` and `args`, and as NAME in its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Address to listen on.
    Host,
    /// Port to listen on.
    Port,
    /// Key that requests will carry as `Authorization: Bearer`.
    ApiKey,
    /// Path of the model, a file or a folder.
    Model,
    /// Name of the model that clients use.
    ModelName,
    /// Tokens of context.
    ContextLength,
    /// Requests at once.
    Parallel,
    /// GPUs of this pod.
    Gpus,
    /// Threads that the container's CPU limit allows.
    Threads,
}

impl Variable {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Host,
        Self::Port,
        Self::ApiKey,
        Self::Model,
        Self::ModelName,
        Self::ContextLength,
        Self::Parallel,
        Self::Gpus,
        Self::Threads,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "HOST",
            Self::Port => "PORT",
            Self::ApiKey => "API_KEY",
            Self::Model => "MODEL",
            Self::ModelName => "MODEL_NAME",
            Self::ContextLength => "CONTEXT_LENGTH",
            Self::Parallel => "PARALLEL",
            Self::Gpus => "GPUS",
            Self::Threads => "THREADS",
        }
    }

    /// The field that gives it a value, when `backend` does not have it.
    #[must_use]
    pub fn missing(self, backend: &LocalBackend) -> Option<&'static str> {
        let (field, present) = match self {
            Self::Model => ("source", backend.source.is_some()),
            Self::ContextLength => ("contextLength", backend.context_length.is_some()),
            Self::Gpus => ("gpus.count", backend.gpus.as_ref().is_some_and(|g| g.count.is_some())),
            Self::Host | Self::Port | Self::ApiKey | Self::ModelName | Self::Parallel | Self::Threads => ("", true),
        };
        (!present).then_some(field)
    }
}

/// `text` with every `$(NAME)` of a [`Variable`] replaced; `$$(` becomes `$(`, and other names stay as they are.
#[must_use]
pub fn fill(text: &str, value: impl Fn(Variable) -> String) -> String {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Variable(variable) => filled.push_str(&value(variable)),
        }
    }
    filled
}

/// The variables that `text` names.
pub fn variables(text: &str) -> impl Iterator<Item = Variable> {
    pieces(text).filter_map(|piece| match piece {
        Piece::Variable(variable) => Some(variable),
        Piece::Text(_) => None,
    })
}

enum Piece<'a> {
    Text(&'a str),
    Variable(Variable),
}

fn pieces(mut rest: &str) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        let (piece, after) = next_piece(rest)?;
        rest = after;
        Some(piece)
    })
}

fn next_piece(text: &str) -> Option<(Piece<'_>, &str)> {
    if text.is_empty() {
        return None;
    }
    if let Some((variable, after)) = leading_variable(text) {
        return Some((Piece::Variable(variable), after));
    }
    if let Some(after) = text.strip_prefix("$$(") {
        return Some((Piece::Text("$("), after));
    }
    // At least one character is taken; the next piece may begin at the next dollar.
    let next = text
        .char_indices()
        .skip(1)
        .find(|(_, c)| *c == '$')
        .map_or(text.len(), |(at, _)| at);
    let (plain, after) = text.split_at_checked(next)?;
    Some((Piece::Text(plain), after))
}

fn leading_variable(text: &str) -> Option<(Variable, &str)> {
    let (name, after) = text.strip_prefix("$(")?.split_once(')')?;
    let variable = Variable::ALL.into_iter().find(|variable| variable.name() == name)?;
    Some((variable, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(engine: EngineKind, flag: &str) -> Option<String> {
        reserved(engine, &[flag.to_owned()])
            .next()
            .map(|found| found.to_string())
    }

    #[test]
    fn what_the_runtime_sets_is_refused_with_the_field_to_use() {
        for (engine, flag, said) in [
            (
                EngineKind::LlamaCpp,
                "--port",
                "--port is set by the runtime; remove it",
            ),
            (
                EngineKind::LlamaCpp,
                "--port=1",
                "--port is set by the runtime; remove it",
            ),
            (
                EngineKind::LlamaCpp,
                "-c",
                "-c is set by the runtime; remove it and use contextLength",
            ),
            (
                EngineKind::VLLM,
                "--max_num_seqs=9",
                "--max_num_seqs is set by the runtime; remove it and use parallel",
            ),
            (
                EngineKind::VLLM,
                "--api-k",
                "--api-k is set by the runtime; remove it and use access",
            ),
            (
                EngineKind::SGLang,
                "--model",
                "--model is set by the runtime; remove it and use source",
            ),
        ] {
            assert_eq!(refused(engine, flag).as_deref(), Some(said));
        }
    }

    #[test]
    fn flags_of_one_engine_are_free_in_another() {
        for (engine, flag) in [
            (EngineKind::LlamaCpp, "--model-draft"),
            (EngineKind::LlamaCpp, "--no"),
            (EngineKind::VLLM, "-c"),
            (EngineKind::VLLM, "--tensor-parallel-size"),
            (EngineKind::VLLM, "--max-num-batched-tokens"),
            (EngineKind::VLLM, "--"),
            (EngineKind::SGLang, "--max-model-len"),
            (EngineKind::Custom, "--port"),
        ] {
            assert_eq!(refused(engine, flag), None);
        }
    }

    #[test]
    fn variables_are_filled_in_and_what_is_none_stays() {
        let value = |variable: Variable| format!("<{}>", variable.name());
        for (text, filled) in [
            ("--listen=$(HOST):$(PORT)", "--listen=<HOST>:<PORT>"),
            ("$$(PORT) costs $5", "$(PORT) costs $5"),
            ("$$$(PORT)", "$$(PORT)"),
            ("$(HOME) $(PORT", "$(HOME) $(PORT"),
            ("$", "$"),
            ("", ""),
            ("é$(MODEL)é", "é<MODEL>é"),
        ] {
            assert_eq!(fill(text, value), filled, "{text}");
        }
        assert_eq!(variables("$(MODEL)$$(PORT)").collect::<Vec<_>>(), [Variable::Model]);
    }
}
