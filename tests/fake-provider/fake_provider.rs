//! A provider of language models that plays a working one in six wire formats, and every fault. It prints its address and serves until
//! it is killed. `POST /_script {"acts": [{"row": "openai/server_error"}, {"flood": "event"}], "repeatLast": false}` scripts the next
//! requests, `GET /_seen` tells what came, `DELETE /_script` forgets both.

#[path = "mod.rs"]
mod provider;

use std::time::Duration;

use clap::Parser;

use provider::{Format, Manner, Provider};

#[derive(Debug, Parser)]
struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// The only format served: OpenAI, Anthropic, Gemini, AzureOpenAI, LiteLLM, OpenAICompatible, or all.
    #[arg(long, default_value = "all", value_parser = format)]
    format: Wanted,
    /// The only key accepted; any when absent.
    #[arg(long)]
    key: Option<String>,
    /// Words of an answer.
    #[arg(long, default_value_t = 33)]
    tokens: u64,
    /// Between two events of a stream: 5ms.
    #[arg(long, default_value = "0s", value_parser = pace)]
    pace: Duration,
}

/// One format, or all.
#[derive(Clone, Copy, Debug)]
struct Wanted(Option<Format>);

fn format(text: &str) -> Result<Wanted, String> {
    if text == "all" {
        return Ok(Wanted(None));
    }
    text.parse().map(Some).map(Wanted)
}

fn pace(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    span.try_into().map_err(|_| "a pace is not negative".to_owned())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let manner = Manner {
        format: options.format.0,
        key: options.key,
        tokens: options.tokens,
        pace: options.pace,
        ..Manner::default()
    };
    let provider = Provider::listen(&options.listen, manner).await?;
    println!("{}", provider.address);
    std::future::pending().await
}
