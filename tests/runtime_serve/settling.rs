//! What every way for a request to end leaves in the account, through the real process: `settled` only what was reported for the whole
//! answer, `uncertain` whole reservations that may have been billed, nothing in flight.

use futures::{StreamExt, stream};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    fake_provider::{Act, Ending, Manner, Provider},
    hangup::call,
    money::{in_flight, reserved, usd},
    process::{Runtime, chat_body, read, start, start_with_keys, until},
    requests::{CHAT, content, done, event, remote, role, stop, usage},
    upstream::{self, Upstream, refusing},
};

const PRICE: &str = ", price: {inputPerMillionTokens: \"1\", outputPerMillionTokens: \"1\"}";
/// No retries, timers that a test can wait for, circuits that stay closed.
const PLAIN: &str = ", retry: {maxRetries: 0}, timeouts: {connect: 1s, firstToken: 1s, idle: 1s, total: 1500ms}, \
    circuitBreaker: {consecutiveFailures: 1000, minimumRequests: 10000}";
const PATIENT: &str = ", retry: {maxRetries: 0}, circuitBreaker: {consecutiveFailures: 1000, minimumRequests: 10000}";
const STREAM: &str = r#","stream":true,"max_tokens":10"#;
const WHOLE: &str = r#","max_tokens":10"#;
/// Rows at a time.
const AT_ONCE: usize = 3;
/// [`CHAT`] and [`usage`] report 9 and 2 tokens.
const REPORTED: u64 = 11 * 1_000;

fn spec(backend: &str) -> String {
    format!("budget: {{limit: \"1.00\", period: Total}}\nbackends:\n{backend}")
}

fn backend(provider: &Provider, further: &str) -> String {
    format!(
        "- name: up\n  remote: {{provider: OpenAI, endpoint: \"http://{}/v1\", model: m, \
         credentials: {{secret: {{name: openai, key: api-key}}}}{PRICE}{further}}}\n",
        provider.address
    )
}

async fn against(act: Act, further: &str) -> (Provider, Runtime) {
    let provider = Provider::start(Manner::default()).await;
    provider.repeat([act]);
    let runtime = start(&spec(&backend(&provider, further))).await;
    (provider, runtime)
}

async fn budget(runtime: &Runtime) -> Value {
    runtime.status().await["budget"].clone()
}

/// Once nothing is in flight.
async fn booked(runtime: &Runtime, what: &str, settled: u64, uncertain: u64) {
    until(what, || async { in_flight(&budget(runtime).await) == &json!("0.00") }).await;
    let budget = budget(runtime).await;
    assert_eq!(
        (&budget["settled"], &budget["uncertain"]),
        (&json!(usd(settled)), &json!(usd(uncertain))),
        "{what}"
    );
}

fn interim(tokens: u64) -> String {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens});
    event(
        &json!({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": null}], "usage": usage})
            .to_string(),
    )
}

fn finish_with_usage() -> String {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11});
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}).to_string())
}

fn broken_off() -> String {
    event(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#)
}

/// What a row leaves: nothing, what was reported, or the whole reservation as uncertain.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    Reported,
    Uncertain,
}

type Row = (&'static str, &'static str, Act, Left);

fn refusal(status: u16, body: &str) -> Act {
    Act::answer(status, &[], body)
}

fn refusals() -> Vec<Row> {
    let filtered = r#"{"error":{"code":"content_filter","message":"filtered","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
    let long = r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    let echo = json!({"error": {"message": "bad", "input": "x".repeat(200_000)}}).to_string();
    let half = Act {
        cut_at: Some(10),
        ..refusal(500, r#"{"error":{"message":"boom"}}"#)
    };
    vec![
        (
            "400",
            WHOLE,
            refusal(400, r#"{"error":{"message":"bad"}}"#),
            Left::Nothing,
        ),
        (
            "content filter before an answer",
            WHOLE,
            refusal(400, filtered),
            Left::Nothing,
        ),
        ("context length", WHOLE, refusal(400, long), Left::Nothing),
        (
            "401",
            WHOLE,
            refusal(401, r#"{"error":{"message":"key"}}"#),
            Left::Nothing,
        ),
        (
            "403",
            WHOLE,
            refusal(403, r#"{"error":{"message":"no"}}"#),
            Left::Nothing,
        ),
        (
            "429",
            WHOLE,
            refusal(429, r#"{"error":{"message":"slow"}}"#),
            Left::Nothing,
        ),
        (
            "503",
            WHOLE,
            refusal(503, r#"{"error":{"message":"busy"}}"#),
            Left::Nothing,
        ),
        ("half of a 500", WHOLE, half, Left::Uncertain),
        ("more than is read of a 400", WHOLE, refusal(400, &echo), Left::Nothing),
        (
            "an error in a stream before content",
            STREAM,
            Act::stream([failure()], Ending::Regular),
            Left::Nothing,
        ),
    ]
}

fn failure() -> String {
    event(r#"{"error":{"message":"overloaded","type":"server_error"}}"#)
}

fn whole_answers() -> Vec<Row> {
    let no_report = CHAT.replace("\"usage\"", "\"no_usage\"");
    let filtered = CHAT.replace("\"stop\"", "\"content_filter\"");
    let broken_off = CHAT.replace("\"stop\"", "\"error\"");
    let half = CHAT.replace(",\"completion_tokens\":2,\"total_tokens\":11", "");
    vec![
        ("an answer", WHOLE, Act::answer(200, &[], CHAT), Left::Reported),
        (
            "an answer without a report",
            WHOLE,
            Act::answer(200, &[], no_report),
            Left::Uncertain,
        ),
        (
            "a report without the completion",
            WHOLE,
            Act::answer(200, &[], half),
            Left::Uncertain,
        ),
        (
            "an answer cut for its content, with a report",
            WHOLE,
            Act::answer(200, &[], filtered),
            Left::Reported,
        ),
        (
            "an answer that its provider broke off, with a report",
            WHOLE,
            Act::answer(200, &[], broken_off),
            Left::Reported,
        ),
        (
            "an answer that breaks off",
            WHOLE,
            Act {
                cut_at: Some(40),
                ..Act::answer(200, &[], CHAT)
            },
            Left::Uncertain,
        ),
        ("no head in time", WHOLE, Act::silent(Ending::Hang), Left::Uncertain),
        (
            "the connection closed without an answer",
            WHOLE,
            Act::silent(Ending::Close),
            Left::Uncertain,
        ),
        (
            "the connection reset without an answer",
            WHOLE,
            Act::silent(Ending::Reset),
            Left::Uncertain,
        ),
        (
            "no first content in time",
            STREAM,
            Act::stream([role()], Ending::Hang),
            Left::Uncertain,
        ),
    ]
}

/// Whatever the provider says of it after the first content: some was generated.
fn failing_streams() -> Vec<Row> {
    let begun = || vec![role(), content("Hi")];
    let plus = |more: Vec<String>| [begun(), more].concat();
    let stream = |pieces: Vec<String>, ending| Act::stream(pieces, ending);
    vec![
        (
            "an error in its midst",
            STREAM,
            stream(plus(vec![failure()]), Ending::Regular),
            Left::Uncertain,
        ),
        (
            "an exhausted quota in its midst",
            STREAM,
            stream(
                plus(vec![event(
                    r#"{"error":{"code":402,"message":"Insufficient credits"}}"#,
                )]),
                Ending::Regular,
            ),
            Left::Uncertain,
        ),
        (
            "a gateway's budget in its midst",
            STREAM,
            stream(
                plus(vec![event(
                    r#"{"error":{"type":"budget_exceeded","message":"ExceededBudget","code":"400"}}"#,
                )]),
                Ending::Regular,
            ),
            Left::Uncertain,
        ),
        (
            "a gateway's cooldown in its midst",
            STREAM,
            stream(
                plus(vec![event(
                    r#"{"error":{"type":"all_deployments_in_cooldown","message":"none","code":"429"}}"#,
                )]),
                Ending::Regular,
            ),
            Left::Uncertain,
        ),
        (
            "broken off by its provider, with a report",
            STREAM,
            stream(plus(vec![broken_off(), usage(), done()]), Ending::Regular),
            Left::Reported,
        ),
        (
            "broken off by its provider, without a report",
            STREAM,
            stream(plus(vec![broken_off(), done()]), Ending::Regular),
            Left::Uncertain,
        ),
    ]
}

fn streams() -> Vec<Row> {
    let begun = || vec![role(), content("Hi")];
    let plus = |more: Vec<String>| [begun(), more].concat();
    let stream = |pieces: Vec<String>, ending| Act::stream(pieces, ending);
    vec![
        (
            "a stream",
            STREAM,
            stream(plus(vec![stop(), usage(), done()]), Ending::Regular),
            Left::Reported,
        ),
        (
            "usage with the finish",
            STREAM,
            stream(plus(vec![finish_with_usage(), done()]), Ending::Regular),
            Left::Reported,
        ),
        (
            "usage and no [DONE]",
            STREAM,
            stream(plus(vec![stop(), usage()]), Ending::Regular),
            Left::Reported,
        ),
        (
            "usage, then a reset",
            STREAM,
            stream(plus(vec![stop(), usage()]), Ending::Reset),
            Left::Reported,
        ),
        (
            "usage, then silence",
            STREAM,
            stream(plus(vec![stop(), usage()]), Ending::Hang),
            Left::Reported,
        ),
        (
            "no usage",
            STREAM,
            stream(plus(vec![stop(), done()]), Ending::Regular),
            Left::Uncertain,
        ),
        ("cut", STREAM, stream(begun(), Ending::Close), Left::Uncertain),
        ("reset", STREAM, stream(begun(), Ending::Reset), Left::Uncertain),
        ("silent", STREAM, stream(begun(), Ending::Hang), Left::Uncertain),
        (
            "reports on the way, then a cut",
            STREAM,
            stream(vec![interim(1), interim(2)], Ending::Close),
            Left::Uncertain,
        ),
        (
            "reports on the way, then silence",
            STREAM,
            stream(vec![interim(1)], Ending::Hang),
            Left::Uncertain,
        ),
        (
            "reports on the way and none of the whole",
            STREAM,
            stream(vec![interim(1), stop(), done()], Ending::Regular),
            Left::Uncertain,
        ),
        (
            "a report of no choice on the way, then a cut",
            STREAM,
            stream(plus(vec![usage(), content("more")]), Ending::Close),
            Left::Uncertain,
        ),
        (
            "reports on the way and one of the whole",
            STREAM,
            stream(vec![interim(1), stop(), usage(), done()], Ending::Regular),
            Left::Reported,
        ),
    ]
}

async fn play((what, fields, act, left): Row) {
    let (_provider, runtime) = against(act, PLAIN).await;
    runtime.chat(fields).await;
    // A refused key is asked for once more with a rebuilt session: two reservations, both given back.
    let (settled, uncertain) = match left {
        Left::Nothing => (0, 0),
        Left::Reported => (REPORTED, 0),
        Left::Uncertain => (0, reserved(fields, 10)),
    };
    booked(&runtime, what, settled, uncertain).await;
}

#[tokio::test]
async fn every_end_leaves_what_may_have_been_billed() {
    let rows = [refusals(), whole_answers(), streams(), failing_streams()].concat();
    let played = stream::iter(rows.clone())
        .map(play)
        .buffer_unordered(AT_ONCE)
        .count()
        .await;
    println!(
        "FIGURE ends of a request whose booking was right: {played} of {}",
        rows.len()
    );
    assert_eq!(played, rows.len());
}

fn named(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// A Messages stream up to its first words, and the event that says why it ends and what it used.
fn anthropic() -> (Vec<String>, String) {
    let usage =
        json!({"input_tokens": 4, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1});
    let begun = vec![
        named(
            "message_start",
            &json!({"type": "message_start", "message": {"id": "m", "model": "m", "usage": usage}}),
        ),
        named(
            "content_block_delta",
            &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
        ),
    ];
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}});
    (begun, named("message_delta", &end))
}

fn gemini() -> (Vec<String>, String) {
    let part = |text: &str, reason: Option<&str>, output: u64| {
        let candidate = json!({"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": reason});
        let usage = json!({"promptTokenCount": 9, "candidatesTokenCount": output, "totalTokenCount": 9 + output});
        event(&json!({"candidates": [candidate], "usageMetadata": usage}).to_string())
    };
    (vec![part("H", None, 1)], part("i", Some("STOP"), 2))
}

/// The process in front of a provider of another format.
async fn translating(format: &str, act: Act) -> (Provider, Runtime) {
    let provider = Provider::start(Manner::default()).await;
    provider.repeat([act]);
    let backend = backend(&provider, PLAIN)
        .replace("provider: OpenAI", &format!("provider: {format}"))
        .replace("/v1\"", "\"");
    let runtime = start(&spec(&backend)).await;
    (provider, runtime)
}

/// Both report on the way; what counts is the report with the reason to stop, even when the stream breaks right after it.
#[tokio::test]
async fn translated_streams_settle_with_the_reason_to_stop() {
    for (format, (begun, end)) in [("Anthropic", anthropic()), ("Gemini", gemini())] {
        let whole = [begun.clone(), vec![end]].concat();
        for (what, pieces, ending, has_ended) in [
            ("cut", begun.clone(), Ending::Close, false),
            ("silent", begun, Ending::Hang, false),
            ("ended, then reset", whole.clone(), Ending::Reset, true),
            ("ended, then silent", whole, Ending::Hang, true),
        ] {
            let (_provider, runtime) = translating(format, Act::stream(pieces, ending)).await;
            let answer = runtime.chat(STREAM).await;
            let (settled, uncertain) = if has_ended {
                (REPORTED, 0)
            } else {
                (0, reserved(STREAM, 10))
            };
            booked(
                &runtime,
                &format!("{format} {what}: {}", answer.text),
                settled,
                uncertain,
            )
            .await;
        }
    }
}

/// A prompt that is blocked is read, and billed where that is reported.
#[tokio::test]
async fn a_blocked_prompt_costs_what_is_reported() {
    let feedback = json!({"blockReason": "SAFETY"});
    let usage = json!({"promptTokenCount": 9, "totalTokenCount": 9});
    for (body, settled) in [
        (json!({"promptFeedback": feedback, "usageMetadata": usage}), 9_000),
        (json!({"promptFeedback": feedback}), 0),
    ] {
        let (_provider, runtime) = translating("Gemini", Act::answer(200, &[], body.to_string())).await;
        assert_eq!(runtime.chat(WHOLE).await.error().1, "content_filtered");
        booked(&runtime, "blocked", settled, 0).await;
    }
}

#[tokio::test]
async fn who_cannot_be_reached_is_paid_nothing() {
    let (_held, address) = refusing();
    let text = format!(
        "- name: up\n  remote: {{provider: OpenAI, endpoint: \"http://{address}/v1\", model: m, \
         credentials: {{secret: {{name: openai, key: api-key}}}}{PRICE}{PLAIN}}}\n"
    );
    let runtime = start(&spec(&text)).await;
    assert_eq!(runtime.chat(WHOLE).await.error().1, "network_error");
    booked(&runtime, "refused connection", 0, 0).await;
}

#[tokio::test]
async fn a_missing_key_is_paid_nothing() {
    let upstream = Upstream::play([upstream::Act::Hang]).await;
    let runtime = start_with_keys(&spec(&remote(&upstream, PRICE)), &[]).await;
    assert_eq!(runtime.chat(WHOLE).await.error().1, "unauthorized");
    booked(&runtime, "no key", 0, 0).await;
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn ten_503s_cost_nothing() {
    let (provider, runtime) = against(refusal(503, r#"{"error":{"message":"busy"}}"#), PATIENT).await;
    for _ in 0..10 {
        assert_eq!(runtime.chat(WHOLE).await.json()["error"]["upstream_status"], 503);
    }
    let budget = budget(&runtime).await;
    assert_eq!(provider.seen().len(), 10);
    assert_eq!(
        [
            &budget["settled"],
            &budget["uncertain"],
            &budget["remaining"],
            in_flight(&budget)
        ],
        [&json!("0.00"), &json!("0.00"), &json!("1.00"), &json!("0.00")]
    );
    println!(
        "FIGURE ten 503s of a provider: settled {}, uncertain {}",
        budget["settled"], budget["uncertain"]
    );
}

#[tokio::test]
async fn ten_hang_ups_cost_what_was_reserved_and_are_shown_as_uncertain() {
    let streams = Act::stream([role(), content("Hi")], Ending::Hang);
    for (what, act, fields) in [
        ("before the head", Act::silent(Ending::Hang), WHOLE),
        ("in a stream", streams, STREAM),
    ] {
        let (provider, runtime) = against(act, PATIENT).await;
        let mut clients = Vec::new();
        for sent in 1..=10 {
            clients.push(call(&runtime, "", fields).await);
            until("the provider has it", || async { provider.seen().len() == sent }).await;
        }
        let all = usd(10 * reserved(fields, 10));
        assert_eq!(in_flight(&budget(&runtime).await), &json!(all), "{what}");
        drop(clients);
        booked(&runtime, what, 0, 10 * reserved(fields, 10)).await;
        println!(
            "FIGURE ten hang-ups {what}: uncertain {all}, provider called {} times",
            provider.seen().len()
        );
        assert_eq!(provider.seen().len(), 10);
    }
}

/// The client asks for usage on the way, reads some of it, and leaves.
#[tokio::test]
async fn who_leaves_after_a_report_on_the_way_leaves_the_whole_reservation_uncertain() {
    let (provider, runtime) = against(Act::stream([interim(1), interim(2)], Ending::Hang), PATIENT).await;
    let fields =
        r#","stream":true,"max_tokens":10,"stream_options":{"include_usage":true,"continuous_usage_stats":true}"#;
    let mut response = runtime.open("/v1/chat/completions", &[], &chat_body(fields)).await;
    let mut text = String::new();
    while !text.contains("\"completion_tokens\":2") {
        use http_body_util::BodyExt;
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    drop(response);
    booked(&runtime, "left", 0, reserved(fields, 10)).await;
    assert_eq!(provider.seen().len(), 1);
}

#[tokio::test]
async fn a_retry_has_a_reservation_of_its_own() {
    let provider = Provider::start(Manner::default()).await;
    provider.script([Act::silent(Ending::Reset), Act::answer(200, &[], CHAT)]);
    let further = ", retry: {maxRetries: 1, initialBackoff: 1ms, maxBackoff: 2ms}";
    let runtime = start(&spec(&backend(&provider, further))).await;
    assert_eq!(runtime.chat(WHOLE).await.status.as_u16(), 200);
    booked(&runtime, "a retry", REPORTED, reserved(WHOLE, 10)).await;
}

/// A stream and a whole answer are both cut at the end of the process, with a typed error each, and are uncertain.
#[tokio::test]
async fn what_the_end_of_the_process_cuts_is_uncertain() {
    let provider = Provider::start(Manner::default()).await;
    provider.script([
        Act::stream([role(), content("Hi")], Ending::Hang),
        Act::silent(Ending::Hang),
    ]);
    let mut runtime = start(&spec(&backend(&provider, PATIENT))).await;
    let response = runtime.open("/v1/chat/completions", &[], &chat_body(STREAM)).await;
    let whole = call(&runtime, "", WHOLE).await;
    until("both are sent", || async { provider.seen().len() == 2 }).await;
    runtime.signal(Signal::SIGTERM);
    until("not ready", || async { runtime.readyz().await.as_u16() == 503 }).await;
    runtime.signal(Signal::SIGTERM);
    assert!(read(response).await.text.contains("event: error"));
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut tokio::io::BufReader::new(whole), &mut answer)
        .await
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains(r#""kind":"backpressure""#),
        "{answer}"
    );
    assert_eq!(runtime.exit_code().await, Some(0));
    let all = usd(reserved(STREAM, 10) + reserved(WHOLE, 10));
    until("the last word", || async {
        let said = runtime.said.lock().unwrap().clone();
        let last = said
            .lines()
            .rfind(|line| line.contains("account ends"))
            .map(str::to_owned);
        let fields = last.map(|line| serde_json::from_str::<Value>(&line).unwrap()["fields"].clone());
        fields.is_some_and(|f| f["settled"] == "0.00" && f["uncertain"] == all.as_str())
    })
    .await;
}
