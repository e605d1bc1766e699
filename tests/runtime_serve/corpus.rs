//! Every recorded error of a provider, played to the real process: a fresh process a row, so that circuits and money start from nothing.

use futures::{StreamExt, stream};
use inference_operator::error::ErrorKind;
use serde_json::Value;

use super::{
    fake_provider::{Act, Manner, Provider, corpus, corpus::Row},
    process::{Answer, Runtime, chat_body, start},
};

/// A context that is poisoned and an engine that is dead are words of the own engine only: a remote endpoint has no context of ours, and
/// `tests/engine` plays both.
const OWN_ENGINE_ONLY: &[&str] = &["vllm/cuda_poisoned", "vllm/engine_dead"];
const ROWS: usize = 89;
/// Rows at a time.
const AT_ONCE: usize = 3;
/// The deadline of a request: waits that are longer are told, not waited for.
const TOTAL_MS: u64 = 4_000;

const FURTHER: &str = "retry: {maxRetries: 1, initialBackoff: 1ms, maxBackoff: 2ms}, \
    timeouts: {connect: 3s, firstToken: 3s, idle: 2s, total: 4s}, circuitBreaker: {consecutiveFailures: 2}, \
    price: {inputPerMillionTokens: \"1\", outputPerMillionTokens: \"1\"}";

fn spec(row: &Row, provider: &Provider) -> String {
    let (name, path) = match row.provider {
        "openai" => ("OpenAI", "/v1"),
        "anthropic" => ("Anthropic", ""),
        "gemini" => ("Gemini", ""),
        "azure_openai" => ("AzureOpenAI", ""),
        "litellm_proxy" => ("LiteLLM", "/v1"),
        _ => ("OpenAICompatible", "/v1"),
    };
    let endpoint = format!("http://{}{path}", provider.address);
    let credentials = "credentials: {secret: {name: openai, key: api-key}}";
    format!(
        "budget: {{limit: \"1.00\", period: Total}}\nbackends:\n- name: up\n  remote: {{provider: {name}, endpoint: \"{endpoint}\", model: some-model, {credentials}, {FURTHER}}}\n"
    )
}

/// What a row must lead to, and what it led to instead.
struct Judge<'a> {
    row: &'a Row,
    faults: Vec<String>,
}

impl Judge<'_> {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.faults
                .push(format!("{}: {what} is {found:?}, not {expected:?}", self.row.name()));
        }
    }
}

fn kind(variant: &str) -> Option<ErrorKind> {
    let plain = |text: &str| text.replace('_', "").to_lowercase();
    ErrorKind::ALL
        .into_iter()
        .find(|kind| plain(kind.as_str()) == plain(variant))
}

/// After content has gone to the client a failure is an event of the stream.
fn is_late(row: &Row) -> bool {
    row.streams() && row.body.contains("\"Hel\"")
}

async fn play(row: Row) -> Vec<String> {
    let provider = Provider::start(Manner::default()).await;
    provider.repeat([Act::row(row.name())]);
    let runtime = start(&spec(&row, &provider)).await;
    let fields = if row.streams() { r#","stream":true"# } else { "" };
    let answer = runtime.post("/v1/chat/completions", &chat_body(fields)).await;
    let mut judge = Judge {
        row: &row,
        faults: vec![],
    };
    match kind(row.variant) {
        None => judge_success(&mut judge, &answer, &runtime).await,
        Some(ErrorKind::ContentFiltered) if row.status == 200 => judge_filtered(&mut judge, &answer, &runtime).await,
        Some(kind) if is_late(&row) => judge_late(&mut judge, &answer, kind),
        Some(kind) => judge_error(&mut judge, &answer, kind),
    }
    judge_calls(&mut judge, &provider);
    judge_money(&mut judge, &runtime.status().await["budget"]);
    judge_circuits(&mut judge, &runtime, fields).await;
    judge.faults
}

async fn judge_success(judge: &mut Judge<'_>, answer: &Answer, runtime: &Runtime) {
    judge.same("status", answer.status.as_u16(), 200);
    judge.same("an error event", answer.text.contains("event: error"), false);
    judge.same("[DONE]", answer.text.ends_with("data: [DONE]\n\n"), judge.row.streams());
    let metrics = runtime.metrics().await;
    judge.same(
        "a success in the metrics",
        metrics.contains(r#"outcome="success"} 1"#),
        true,
    );
    let malformed = u8::from(judge.row.condition == "sse_bad_json_chunk");
    let line = format!("inference_malformed_events_total {malformed}");
    judge.same(&line, metrics.contains(&line), true);
}

/// An answer that was cut for its content: passed on as far as it goes, and counted as what it is.
async fn judge_filtered(judge: &mut Judge<'_>, answer: &Answer, runtime: &Runtime) {
    if answer.status.as_u16() == 200 {
        judge.same(
            "finish_reason",
            answer.text.contains("\"finish_reason\":\"content_filter\""),
            true,
        );
    } else {
        judge_error(judge, answer, ErrorKind::ContentFiltered);
    }
    let metrics = runtime.metrics().await;
    let counted = metrics.contains(r#"inference_requests_total{backend="up",outcome="content_filtered"} 1"#);
    judge.same("content_filtered in the metrics", counted, true);
}

fn judge_late(judge: &mut Judge<'_>, answer: &Answer, kind: ErrorKind) {
    judge.same("status", answer.status.as_u16(), 200);
    judge.same("[DONE]", answer.text.contains("[DONE]"), false);
    let event = answer
        .text
        .split_once("event: error\ndata: ")
        .map_or("null", |(_, data)| data.trim());
    let error: Value = serde_json::from_str(event).unwrap_or_default();
    let told = error["error"]["inference_error"]["kind"].as_str().unwrap_or_default();
    judge.same("kind of the last event", told, kind.as_str());
}

fn judge_error(judge: &mut Judge<'_>, answer: &Answer, kind: ErrorKind) {
    let contract = kind.contract();
    judge.same(
        "kind",
        answer.error(),
        (contract.error_code.to_owned(), kind.as_str().to_owned()),
    );
    judge.same("status", answer.status.as_u16(), contract.http_status);
    if let Some(wait) = judge.row.wait_ms.filter(|_| contract.retry_after) {
        let told = answer
            .headers
            .get("retry-after")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        judge.same("retry-after", told.to_owned(), wait.div_ceil(1_000).to_string());
    }
}

/// Once, but: a key that was refused is read anew once, and what may be tried again within the deadline is.
fn calls(row: &Row) -> usize {
    let again = row.retryable && row.wait_ms.is_none_or(|wait| wait < TOTAL_MS);
    if row.variant == "Unauthorized" || again { 2 } else { 1 }
}

fn judge_calls(judge: &mut Judge<'_>, provider: &Provider) {
    let seen = provider.seen();
    judge.same("number of calls", seen.len(), calls(judge.row));
    if seen.len() != calls(judge.row) {
        let asked = seen
            .iter()
            .map(|seen| format!("{} {} {:?}", seen.method, seen.path, seen.headers));
        judge.faults.extend(asked);
    }
}

fn judge_money(judge: &mut Judge<'_>, budget: &Value) {
    let booked = |name: &str| budget[name] != "0.00";
    match judge.row.billed {
        "no" => judge.same("money booked", (booked("settled"), booked("uncertain")), (false, false)),
        "maybe" => judge.same("money booked", booked("settled") || booked("uncertain"), true),
        other => judge.faults.push(format!("{}: billed is {other:?}", judge.row.name())),
    }
    judge.same("leased", budget["leased"].as_str(), Some("0.00"));
}

/// Two failures in a row open the endpoint's circuit; the credential's opens with the first.
async fn judge_circuits(judge: &mut Judge<'_>, runtime: &Runtime, fields: &str) {
    let open = |is: bool| if is { "Open" } else { "Closed" }.to_owned();
    let credential = judge.row.circuit == "credential";
    judge.same(
        "credential circuit",
        runtime.circuit("up", "Credential").await,
        open(credential),
    );
    runtime.post("/v1/chat/completions", &chat_body(fields)).await;
    let endpoint = judge.row.circuit == "yes";
    judge.same(
        "endpoint circuit",
        runtime.circuit("up", "Endpoint").await,
        open(endpoint),
    );
}

#[tokio::test]
async fn every_recorded_row_leads_to_what_the_table_says() {
    let all = corpus::rows();
    assert_eq!(all.len(), ROWS);
    let rows: Vec<Row> = all
        .into_iter()
        .filter(|row| !OWN_ENGINE_ONLY.contains(&row.name().as_str()))
        .collect();
    let played = rows.len();
    let faults: Vec<String> = stream::iter(rows).map(play).buffer_unordered(AT_ONCE).concat().await;
    println!("{played} of {ROWS} rows played, {} findings", faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(played, ROWS - OWN_ENGINE_ONLY.len());
}
