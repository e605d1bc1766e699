//! A hard budget: reserved before sending, refused exactly.

use serde_json::json;

use super::{
    process::{chat_body, start},
    requests::{CHAT, content, done, remote, role, stop, usage},
    upstream::{Act, Ending, Upstream},
};

const PRICE: &str = ", price: {inputPerMillionTokens: \"1\", outputPerMillionTokens: \"1\"}";

fn spec(limit_nanos: u64, upstream: &Upstream, further: &str) -> String {
    let limit = format!("0.{limit_nanos:09}");
    format!(
        "budget: {{limit: \"{limit}\", period: Total}}\nbackends:\n{}",
        remote(upstream, &format!("{PRICE}{further}"))
    )
}

/// What the process reserves for the body: bytes, a space after each separator and a frame of 1,024 tokens, and the output limit, 1,000
/// nano-USD a token.
pub fn reserved(fields: &str, output: u64) -> u64 {
    let body = chat_body(fields);
    let separators = body.bytes().filter(|b| matches!(b, b',' | b':')).count();
    ((body.len() + separators) as u64 + 1_024 + output) * 1_000
}

/// What is reserved by requests in flight, in the account as `/status` shows it.
pub fn in_flight(budget: &serde_json::Value) -> &serde_json::Value {
    &budget["leased"]
}

/// An amount of USD as the API writes it.
pub fn usd(nanos: u64) -> String {
    inference_operator::api::NanoUsd(nanos).to_string()
}

#[tokio::test]
async fn the_request_that_does_not_fit_is_refused_and_not_sent() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let fields = r#","max_tokens":10"#;
    // Room for one reservation after one settled answer of 11 tokens, less one nano-USD.
    let runtime = start(&spec(reserved(fields, 10) + 11_000 - 1, &upstream, "")).await;
    assert_eq!(runtime.chat(fields).await.text, CHAT);
    let answer = runtime.chat(fields).await;
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status.as_u16(), &error["code"]),
        (429, &json!("insufficient_quota"))
    );
    assert_eq!(
        (
            &error["inference_error"]["kind"],
            &error["inference_error"]["deployment"]
        ),
        (&json!("budget_exceeded"), &json!("default/assistant"))
    );
    assert_eq!(upstream.seen().len(), 1);
    let budget = runtime.status().await["budget"].clone();
    assert_eq!(
        (&budget["settled"], &budget["leased"], &budget["uncertain"]),
        (&json!("0.000011"), &json!("0.00"), &json!("0.00"))
    );
}

#[tokio::test]
async fn a_request_that_just_fits_is_sent() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let fields = r#","max_tokens":10"#;
    let runtime = start(&spec(reserved(fields, 10) + 11_000, &upstream, "")).await;
    for _ in 0..2 {
        assert_eq!(runtime.chat(fields).await.status.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_limit_is_sent_where_the_client_names_none() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let runtime = start(&spec(999_000_000, &upstream, "")).await;
    assert_eq!(runtime.chat("").await.status.as_u16(), 200);
    assert_eq!(upstream.seen()[0].body["max_completion_tokens"], 4_096);
}

#[tokio::test]
async fn how_an_answer_ends_decides_what_is_booked() {
    let never = ", retry: {maxRetries: 0}";
    let whole = vec![role(), content("Hi"), stop(), usage(), done()];
    let fields = r#","stream":true,"max_tokens":10"#;
    let all = usd(reserved(fields, 10));
    for (act, settled, uncertain) in [
        (Act::Stream(whole, Ending::Regular), "0.000011", "0.00"),
        (
            Act::Stream(vec![role(), content("Hi")], Ending::Cut),
            "0.00",
            all.as_str(),
        ),
        (
            Act::Stream(vec![content("Hi"), stop(), done()], Ending::Regular),
            "0.00",
            all.as_str(),
        ),
        (
            Act::Answer(500, &[], r#"{"error":{"message":"boom"}}"#.into()),
            "0.00",
            "0.00",
        ),
        (
            Act::Answer(429, &[], r#"{"error":{"message":"slow"}}"#.into()),
            "0.00",
            "0.00",
        ),
    ] {
        let upstream = Upstream::play([act]).await;
        let runtime = start(&spec(999_000_000, &upstream, never)).await;
        let answer = runtime.chat(fields).await;
        let budget = runtime.status().await["budget"].clone();
        assert_eq!(
            (&budget["settled"], &budget["uncertain"]),
            (&json!(settled), &json!(uncertain)),
            "{}",
            answer.text
        );
        assert_eq!(budget["leased"], "0.00");
    }
}

#[tokio::test]
async fn fields_of_unknown_cost_are_refused_by_name() {
    let upstream = Upstream::play([Act::Hang]).await;
    let runtime = start(&spec(999_000_000, &upstream, "")).await;
    let answer = runtime.chat(r#","web_search_options":{}"#).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (400, "bad_request")
    );
    assert!(answer.text.contains("web_search_options"), "{}", answer.text);
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn concurrent_requests_never_exceed_the_limit() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.replace("\"usage\"", "\"no_usage\""))]).await;
    let fields = r#","max_tokens":10"#;
    let runtime = start(&spec(reserved(fields, 10) * 10, &upstream, "")).await;
    let answers = futures::future::join_all((0..32).map(|_| runtime.chat(fields))).await;
    let sent = answers.iter().filter(|answer| answer.status.as_u16() == 200).count();
    assert_eq!(
        (sent, upstream.seen().len()),
        (10, 10),
        "answers without a report stay booked whole"
    );
    assert_eq!(runtime.status().await["budget"]["remaining"], "0.00");
}
