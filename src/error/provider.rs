//! Who answered, as the wire form of errors spells it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// A provider: `"open_ai"`, …, or `{"custom": NAME}`. Reading accepts the spellings of the CRD too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// api.openai.com.
    OpenAi,
    /// api.anthropic.com.
    Anthropic,
    /// Google's Gemini.
    Gemini,
    /// A LiteLLM proxy.
    LiteLlm,
    /// Azure OpenAI.
    #[serde(rename = "azure_open_ai")]
    AzureOpenAi,
    /// The engine of a runtime pod.
    Local,
    /// Anything else, by the name of its backend.
    Custom(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    Name(String),
    Custom { custom: String },
}

impl<'de> Deserialize<'de> for Provider {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Wire::deserialize(deserializer)? {
            Wire::Custom { custom } => Ok(Self::Custom(custom)),
            Wire::Name(name) => {
                Self::named(&name).ok_or_else(|| de::Error::custom(format!("unknown provider {name:?}")))
            }
        }
    }
}

impl Provider {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "open_ai" | "OpenAI" => Self::OpenAi,
            "anthropic" | "Anthropic" => Self::Anthropic,
            "gemini" | "Gemini" => Self::Gemini,
            "lite_llm" | "LiteLLM" => Self::LiteLlm,
            "azure_open_ai" | "AzureOpenAI" => Self::AzureOpenAi,
            "local" => Self::Local,
            "OpenAICompatible" => Self::Custom(name.to_owned()),
            _ => return None,
        })
    }
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
