//! Who answered, as the wire form of errors spells it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A provider: `"open_ai"`, …, or `{"custom": NAME}`. Reading accepts the spellings of the CRD too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// api.openai.com.
    #[serde(alias = "OpenAI")]
    OpenAi,
    /// api.anthropic.com.
    #[serde(alias = "Anthropic")]
    Anthropic,
    /// Google's Gemini.
    #[serde(alias = "Gemini")]
    Gemini,
    /// A LiteLLM proxy.
    #[serde(alias = "LiteLLM")]
    LiteLlm,
    /// Azure OpenAI.
    #[serde(rename = "azure_open_ai", alias = "AzureOpenAI")]
    AzureOpenAi,
    /// The engine of a runtime pod.
    #[serde(alias = "Local")]
    Local,
    /// Anything else, by the name of its backend.
    #[serde(alias = "OpenAICompatible")]
    Custom(String),
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenAi => "OpenAI",
            Self::Anthropic => "Anthropic",
            Self::Gemini => "Gemini",
            Self::LiteLlm => "LiteLLM",
            Self::AzureOpenAi => "Azure OpenAI",
            Self::Local => "the local engine",
            Self::Custom(name) => name,
        })
    }
}
