//! A budget that has no money for a request, or a backend that broke its bound: who is told what, and who goes on.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    local,
    money::usd,
    process::{Answer, Runtime, start, until},
    requests::{CHAT, named},
    upstream::{Act, Upstream},
};

const PAID: &str = ", price: {inputPerMillionTokens: \"1\", outputPerMillionTokens: \"1\"}";
const FREE: &str = ", price: {inputPerMillionTokens: \"0\", outputPerMillionTokens: \"0.00\"}";
const FIELDS: &str = r#","max_tokens":10"#;

fn budget(limit: &str, period: &str) -> String {
    format!("budget: {{limit: \"{limit}\", period: {period}, onExhausted: Reject}}\nbackends:\n")
}

async fn answering() -> Upstream {
    Upstream::play([Act::Answer(200, &[], CHAT.into())]).await
}

fn by(answer: &Answer) -> (u16, &str) {
    let backend = answer.headers.get("x-inference-backend");
    (
        answer.status.as_u16(),
        backend.map_or("", |name| name.to_str().unwrap()),
    )
}

async fn refusals(runtime: &Runtime, backend: &str, reason: &str) -> u64 {
    let line = format!(r#"inference_budget_refusals_total{{backend="{backend}",reason="{reason}"}} "#);
    let metrics = runtime.metrics().await;
    let count = metrics.lines().find_map(|l| l.strip_prefix(&line));
    count.map_or(0, |count| count.parse().unwrap())
}

fn is_typed(error: &Value) {
    assert_eq!(
        [
            &error["type"],
            &error["code"],
            &error["retryable"],
            &error["inference_error"]["kind"]
        ],
        [
            &json!("insufficient_quota"),
            &json!("insufficient_quota"),
            &json!(false),
            &json!("budget_exceeded")
        ]
    );
    assert_eq!(error["inference_error"]["deployment"], "default/assistant");
}

#[tokio::test]
async fn the_answer_says_whose_budget_it_is_and_until_when() {
    let upstream = answering().await;
    let runtime = start(&format!(
        "{}{}",
        budget("0.000001", "Hour"),
        named("up", &upstream, PAID)
    ))
    .await;
    let before = Timestamp::now();
    let answer = runtime.chat(FIELDS).await;
    assert_eq!(answer.status.as_u16(), 429, "{}", answer.text);
    let error = answer.json()["error"].clone();
    is_typed(&error);
    let end = error["inference_error"]["window_end_unix_ms"].as_i64().unwrap();
    assert_eq!(end % 3_600_000, 0, "the next full hour");
    let left = u64::try_from(end - before.as_millisecond()).unwrap().div_ceil(1_000);
    let told: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(told <= left && told + 20 >= left && left <= 3_600, "{told} of {left}");
    assert!(error["message"].as_str().unwrap().contains("until 20"), "{error}");
    assert_eq!(refusals(&runtime, "up", "exhausted").await, 1);
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn nobody_is_told_to_wait_for_money_that_does_not_come_back() {
    let upstream = answering().await;
    for period in ["Total", "Month"] {
        let runtime = start(&format!(
            "{}{}",
            budget("0.000001", period),
            named("up", &upstream, PAID)
        ))
        .await;
        let answer = runtime.chat(FIELDS).await;
        let error = answer.json()["error"].clone();
        is_typed(&error);
        let end = &error["inference_error"]["window_end_unix_ms"];
        assert_eq!(end.is_null(), period == "Total", "{period}: {error}");
        let is_soon = end
            .as_i64()
            .is_some_and(|end| end - Timestamp::now().as_millisecond() <= 3_600_000);
        assert_eq!(answer.headers.contains_key("retry-after"), is_soon, "{period}");
    }
}

#[tokio::test]
async fn a_free_backend_answers_when_the_money_is_gone_and_no_other_paid_one() {
    let [dear, cheap, free] = [answering().await, answering().await, answering().await];
    let cheaper = ", price: {inputPerMillionTokens: \"0.000001\", outputPerMillionTokens: \"0.000001\"}";
    let spec = format!(
        "{}{}{}{}",
        budget("0.0001", "Total"),
        named("dear", &dear, PAID),
        named("cheap", &cheap, cheaper),
        named("free", &free, FREE),
    );
    let runtime = start(&spec).await;
    for _ in 0..5 {
        assert_eq!(by(&runtime.chat(FIELDS).await), (200, "free"));
    }
    assert_eq!((dear.seen().len(), cheap.seen().len(), free.seen().len()), (0, 0, 5));
    assert_eq!(refusals(&runtime, "dear", "exhausted").await, 5);
    let account = runtime.status().await["budget"].clone();
    assert_eq!(
        (&account["settled"], &account["uncertain"]),
        (&json!("0.00"), &json!("0.00"))
    );
}

/// What costs nothing needs no bound.
#[tokio::test]
async fn a_free_backend_takes_what_has_no_known_cost() {
    let [paid, free] = [answering().await, answering().await];
    let spec = format!(
        "{}{}{}",
        budget("1.00", "Total"),
        named("paid", &paid, PAID),
        named("free", &free, FREE)
    );
    let runtime = start(&spec).await;
    let answer = runtime.chat(r#","web_search_options":{}"#).await;
    assert_eq!(by(&answer), (200, "free"), "{}", answer.text);
    assert_eq!(
        (paid.seen().len(), refusals(&runtime, "paid", "unbounded").await),
        (0, 1)
    );
    assert_eq!(
        free.seen()[0].body["max_completion_tokens"],
        Value::Null,
        "nothing is paid for"
    );
}

#[tokio::test]
async fn the_own_engine_answers_when_the_money_is_gone() {
    let paid = answering().await;
    let spec = format!(
        "{}{}{}",
        budget("0.000001", "Total"),
        named("paid", &paid, PAID),
        local::OWN
    );
    let runtime = local::start("well", &spec).await;
    until("the engine is ready", || async {
        runtime.readyz().await.as_u16() == 200
    })
    .await;
    for _ in 0..3 {
        let answer = runtime.post("/v1/completions", local::COMPLETION).await;
        assert_eq!(by(&answer), (200, "own"), "{}", answer.text);
    }
    assert_eq!(
        (paid.seen().len(), refusals(&runtime, "paid", "exhausted").await),
        (0, 3)
    );
}

#[tokio::test]
async fn a_report_above_the_bound_is_booked_in_full_and_stops_that_backend_only() {
    let liar = CHAT.replace("\"completion_tokens\":2", "\"completion_tokens\":50000");
    let [first, second] = [Upstream::play([Act::Answer(200, &[], liar)]).await, answering().await];
    let spec = format!(
        "{}{}{}",
        budget("1.00", "Total"),
        named("first", &first, PAID),
        named("second", &second, PAID)
    );
    let runtime = start(&spec).await;
    assert_eq!(by(&runtime.chat(FIELDS).await), (200, "first"));
    let account = runtime.status().await["budget"].clone();
    assert_eq!(account["settled"], usd((9 + 50_000) * 1_000), "never clipped");
    for _ in 0..3 {
        assert_eq!(by(&runtime.chat(FIELDS).await), (200, "second"));
    }
    assert_eq!((first.seen().len(), second.seen().len()), (1, 3));
    assert_eq!(refusals(&runtime, "first", "bound_violated").await, 3);
    assert_eq!(runtime.status().await["activeBackend"], "second");
    runtime.says("the backend is stopped").await;
}

#[tokio::test]
async fn a_backend_that_broke_its_bound_is_asked_nothing_more() {
    let liar = CHAT.replace("\"completion_tokens\":2", "\"completion_tokens\":50000");
    let upstream = Upstream::play([Act::Answer(200, &[], liar)]).await;
    let runtime = start(&format!("{}{}", budget("1.00", "Total"), named("up", &upstream, PAID))).await;
    assert_eq!(by(&runtime.chat(FIELDS).await), (200, "up"));
    let answer = runtime.chat(FIELDS).await;
    assert_eq!(answer.status.as_u16(), 429);
    is_typed(&answer.json()["error"]);
    assert_eq!(upstream.seen().len(), 1);
}
