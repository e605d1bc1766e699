//! What servers of OpenAI's API have in common.

use http::StatusCode;
use serde::Deserialize;

use super::{About, Canary, Limits, Readiness};

/// One token after a prompt.
const COMPLETIONS: Canary = Canary {
    path: "/v1/completions",
    body: r#"{"prompt":"a","max_tokens":1,"temperature":0}"#,
};
/// One token after a message.
const CHAT: Canary = Canary {
    path: "/v1/chat/completions",
    body: r#"{"messages":[{"role":"user","content":"a"}],"max_tokens":1}"#,
};
/// For models that only embed.
pub const EMBEDDINGS: Canary = Canary {
    path: "/v1/embeddings",
    body: r#"{"input":"a"}"#,
};

const MODELS: &str = "/v1/models";

/// vLLM and SGLang: `/health` is 200 once they are loaded. Models without a chat template answer completions only, models for
/// embeddings neither.
pub const KNOWN: Readiness = Readiness {
    health: "/health",
    loaded: is_ok,
    canaries: &[COMPLETIONS, EMBEDDINGS],
    about: MODELS,
};

/// A server of which nothing is known but its API: it is loaded when it answers at all, be it that there is no such path.
pub const UNKNOWN: Readiness = Readiness {
    health: MODELS,
    loaded: answers,
    canaries: &[CHAT, COMPLETIONS, EMBEDDINGS],
    about: MODELS,
};

/// 200.
pub fn is_ok(status: StatusCode) -> bool {
    status == StatusCode::OK
}

fn answers(status: StatusCode) -> bool {
    !status.is_server_error()
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    max_model_len: Option<u32>,
}

/// From the list of models: the one that is called `name`, else the first. vLLM and SGLang tell its length too.
pub fn about(answer: &[u8], name: &str) -> About {
    let models = serde_json::from_slice::<Models>(answer).map_or_else(|_| Vec::new(), |models| models.data);
    let named = models.iter().position(|model| model.id == name).unwrap_or(0);
    let Some(model) = models.into_iter().nth(named) else {
        return About::default();
    };
    About {
        limits: Limits {
            context_length: model.max_model_len.filter(|&n| n > 0),
            parallel: None,
        },
        model: Some(model.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As vLLM 0.32 lists a model and an adapter.
    const VLLM: &[u8] = br#"{"object":"list","data":[
        {"id":"tiny","object":"model","created":1,"owned_by":"vllm","root":"/models/tiny","parent":null,"max_model_len":512},
        {"id":"adapter","object":"model","created":1,"owned_by":"vllm","root":"/models/a","parent":"tiny","max_model_len":null}]}"#;

    #[test]
    fn the_model_of_the_name_is_taken_else_the_first() {
        let found = about(VLLM, "other");
        assert_eq!(found.model.as_deref(), Some("tiny"));
        assert_eq!(found.limits.context_length, Some(512));
        assert_eq!(about(VLLM, "adapter").model.as_deref(), Some("adapter"));
    }

    #[test]
    fn without_a_list_nothing_is_known() {
        for answer in [&b"<html>"[..], br#"{"data":[]}"#, br#"{"detail":"Not Found"}"#] {
            assert_eq!(about(answer, "m"), About::default());
        }
    }

    #[test]
    fn a_canary_carries_the_models_name() {
        assert_eq!(EMBEDDINGS.body(None), r#"{"input":"a"}"#);
        let named = EMBEDDINGS.body(Some("a \"b\""));
        assert_eq!(named, r#"{"model":"a \"b\"","input":"a"}"#);
        for canary in UNKNOWN.canaries.iter().chain(KNOWN.canaries) {
            serde_json::from_str::<serde_json::Value>(&canary.body(Some("m"))).unwrap();
        }
    }
}
