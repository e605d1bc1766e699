//! Whose protocol is played, as the command line says: llama.cpp's server, vLLM, SGLang, or a server for embeddings that has nothing else.

use std::env;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::flag;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Protocol {
    LlamaCpp,
    Vllm,
    Sglang,
    /// Neither health nor a list of models.
    Embeddings,
}

impl Protocol {
    pub(crate) fn of_command() -> Self {
        let has = |word: &str| env::args().any(|arg| arg == word);
        if has("sglang.launch_server") {
            Self::Sglang
        } else if has("embeddings-only") {
            Self::Embeddings
        } else if env::args().nth(1).as_deref() == Some("serve") {
            Self::Vllm
        } else {
            Self::LlamaCpp
        }
    }

    /// The key that it was given; it wants none when there is none.
    pub(crate) fn key(self) -> Option<String> {
        match self {
            Self::LlamaCpp => env::var("LLAMA_API_KEY").ok(),
            Self::Vllm => env::var("VLLM_API_KEY").ok(),
            Self::Sglang => flag("--api-key"),
            Self::Embeddings => env::var("API_KEY").ok(),
        }
    }

    /// Whether a path is answered without the key: vLLM guards only its API, the others all but health.
    pub(crate) fn is_open(self, path: &str) -> bool {
        match self {
            Self::Vllm => !path.starts_with("/v1"),
            Self::LlamaCpp | Self::Sglang | Self::Embeddings => path == "/health",
        }
    }

    pub(crate) fn unauthorized(self) -> Response {
        let body = match self {
            Self::LlamaCpp => {
                json!({"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}})
            }
            Self::Vllm | Self::Sglang | Self::Embeddings => json!({"error": "Unauthorized"}),
        };
        (StatusCode::UNAUTHORIZED, Json(body)).into_response()
    }

    /// vLLM does not listen before it is loaded.
    pub(crate) fn listens_while_loading(self) -> bool {
        self != Self::Vllm
    }

    /// `None` where there is no such list.
    pub(crate) fn models(self) -> Option<Value> {
        let named = matches!(self, Self::Vllm | Self::Sglang);
        let name = flag("--served-model-name").filter(|_| named)?;
        Some(json!({"object": "list", "data": [{"id": name, "object": "model", "max_model_len": 512}]}))
    }

    /// vLLM knows its model by name; the body is the one that release 0.32 answers.
    pub(crate) fn refuses(self, request: &Value) -> Option<Response> {
        let known = flag("--served-model-name");
        let asked = request.get("model").and_then(Value::as_str);
        if self != Self::Vllm || asked == known.as_deref() {
            return None;
        }
        let message = format!(
            "The model `{}` does not exist. Valid aliases: {}.",
            asked.unwrap_or_default(),
            known.unwrap_or_default()
        );
        let error = json!({"message": message, "type": "NotFoundError", "param": "model", "code": 404});
        Some((StatusCode::NOT_FOUND, Json(json!({"error": error}))).into_response())
    }

    /// What a broken engine answers.
    pub(crate) fn internal_error(self) -> Json<Value> {
        Json(match self {
            Self::Vllm => json!({"error": {
                "message": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
                "type": "InternalServerError", "param": null, "code": 500,
            }}),
            Self::LlamaCpp | Self::Sglang | Self::Embeddings => {
                json!({"error": {"code": 500, "message": "Compute error.", "type": "server_error"}})
            }
        })
    }
}
