//! Providers that fail: classification, retries, spill, circuits, broken streams.

use serde_json::json;

use super::{
    process::{chat_body, start, until},
    requests::{CHAT, content, done, event, named, remote, role, stop},
    upstream::{Act, Ending, Upstream, refusing},
};

const QUICK: &str = ", retry: {maxRetries: 2, initialBackoff: 1ms, maxBackoff: 1ms}";
const NEVER: &str = ", retry: {maxRetries: 0}";

fn fails(status: u16) -> Act {
    Act::Answer(
        status,
        &[("x-request-id", "up-7")],
        r#"{"error":{"message":"boom","type":"server_error"}}"#.into(),
    )
}

fn answers() -> Act {
    Act::Answer(200, &[], CHAT.into())
}

#[tokio::test]
async fn a_failure_is_retried_and_the_retry_is_counted() {
    let upstream = Upstream::play([fails(500), fails(503), answers()]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, QUICK))).await;
    assert_eq!(runtime.chat("").await.text, CHAT);
    assert_eq!(upstream.seen().len(), 3);
    let metrics = runtime.metrics().await;
    assert!(
        metrics.contains(r#"inference_upstream_retries_total{backend="openai"} 2"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"inference_upstream_attempts_total{backend="openai",outcome="server_error"} 2"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_retry_that_the_open_circuit_keeps_back_does_not_hide_the_failure() {
    let upstream = Upstream::play([fails(500)]).await;
    let breaker = format!("{QUICK}, circuitBreaker: {{consecutiveFailures: 1}}");
    let runtime = start(&format!("backends:\n{}", remote(&upstream, &breaker))).await;
    let answer = runtime.chat("").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (502, "server_error")
    );
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(runtime.chat("").await.error().1, "circuit_open");
}

#[tokio::test]
async fn a_whole_answer_to_a_request_for_a_stream_reaches_the_client_as_events() {
    let upstream = Upstream::play([answers()]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let answer = runtime.chat(r#","stream":true"#).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let events: Vec<&str> = answer.text.split_terminator("\n\n").collect();
    assert_eq!((events.len(), events[1]), (2, "data: [DONE]"), "{}", answer.text);
    let chunk: serde_json::Value = serde_json::from_str(events[0].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(chunk["choices"][0]["delta"]["content"], "Hello");
    assert_eq!(
        (&chunk["object"], chunk.get("usage")),
        (&json!("chat.completion.chunk"), None)
    );
}

#[tokio::test]
async fn a_failure_that_stays_is_told_in_full() {
    let upstream = Upstream::play([fails(500)]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, NEVER))).await;
    let answer = runtime.chat("").await;
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status.as_u16(), &error["code"], &error["retryable"]),
        (502, &json!("server_error"), &json!(true))
    );
    assert_eq!(
        error["inference_error"],
        json!({"kind": "server_error", "status": 500, "body": "boom", "backend": "openai", "upstream_status": 500, "request_id": "up-7"})
    );
    let rows = &runtime.status().await["errors"];
    assert_eq!(
        (&rows[0]["kind"], &rows[0]["countBucket"]),
        (&json!("server_error"), &json!(1))
    );
}

fn extra_forbidden() -> Act {
    let detail = r#"{"type":"extra_forbidden","loc":["body","stream_options","include_usage"],"msg":"Extra inputs are not permitted","input":true}"#;
    let body = format!(
        r#"{{"object":"error","message":{{"detail":[{detail}]}},"type":"invalid_request_error","param":null,"code":null}}"#
    );
    Act::Answer(422, &[], body)
}

/// Mistral's API: it reports usage with the last chunk, and knows no field to ask for it.
#[tokio::test]
async fn a_server_that_refuses_stream_options_is_not_asked_for_usage_again() {
    let stream = || Act::Stream(vec![role(), content("Hi"), stop()], Ending::Regular);
    let upstream = Upstream::play([extra_forbidden(), stream()]).await;
    let spec = named("up", &upstream, "").replace("provider: OpenAI", "provider: OpenAICompatible");
    let runtime = start(&format!("backends:\n{spec}")).await;
    let asked = r#","stream":true,"stream_options":{"include_usage":true}"#;
    for fields in [r#","stream":true"#, asked] {
        let answer = runtime.chat(fields).await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    }
    let seen = upstream.seen();
    let options: Vec<_> = seen
        .iter()
        .map(|seen| seen.body.get("stream_options").is_some())
        .collect();
    assert_eq!(options, [true, false, false]);
    runtime.says("it refuses stream_options").await;
}

/// What a client wrote may be quoted, and is no reason to ask nobody for usage any more.
#[tokio::test]
async fn a_refusal_that_only_quotes_stream_options_teaches_nothing() {
    let upstream = Upstream::play([extra_forbidden()]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, NEVER))).await;
    for _ in 0..2 {
        let answer = runtime.chat(r#","stream":true"#).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().1.as_str()),
            (400, "bad_request")
        );
    }
    let own = r#","stream":true,"stream_options":{"foo":1}"#;
    assert_eq!(runtime.chat(own).await.status.as_u16(), 400, "the client's own");
    let seen = upstream.seen();
    let options: Vec<_> = seen
        .iter()
        .map(|seen| seen.body.get("stream_options").is_some())
        .collect();
    assert_eq!(options, [true, false, true, false, true]);
}

#[tokio::test]
async fn a_rate_limit_carries_its_wait() {
    let limited = Act::Answer(
        429,
        &[("retry-after", "7")],
        r#"{"error":{"message":"slow","code":"rate_limit_exceeded"}}"#.into(),
    );
    let upstream = Upstream::play([limited]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, NEVER))).await;
    let answer = runtime.chat("").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().0.as_str()),
        (429, "rate_limited")
    );
    assert_eq!(answer.headers["retry-after"], "7");
    assert_eq!(runtime.circuit("openai", "Endpoint").await, "Closed");
}

#[tokio::test]
async fn requests_spill_in_order_and_an_open_circuit_is_not_asked() {
    let (first, second) = (Upstream::play([fails(500)]).await, Upstream::play([answers()]).await);
    let breaker = format!("{NEVER}, circuitBreaker: {{consecutiveFailures: 2}}");
    let spec = format!(
        "backends:\n{}{}",
        named("first", &first, &breaker),
        named("second", &second, "")
    );
    let runtime = start(&spec).await;
    for _ in 0..4 {
        let answer = runtime.chat("").await;
        assert_eq!(
            (
                answer.status.as_u16(),
                answer.headers["x-inference-backend"].to_str().unwrap()
            ),
            (200, "second")
        );
    }
    assert_eq!((first.seen().len(), second.seen().len()), (2, 4));
    assert_eq!(runtime.circuit("first", "Endpoint").await, "Open");
    let status = runtime.status().await;
    assert_eq!(status["activeBackend"], "second");
    assert_eq!(status["backends"][0]["reason"], "Open");
}

#[tokio::test]
async fn an_open_circuit_is_told_with_its_time() {
    let upstream = Upstream::play([fails(500)]).await;
    let breaker = format!("{NEVER}, circuitBreaker: {{consecutiveFailures: 1, openDuration: 20s}}");
    let runtime = start(&format!("backends:\n{}", remote(&upstream, &breaker))).await;
    assert_eq!(runtime.chat("").await.status.as_u16(), 502);
    let answer = runtime.chat("").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (503, "circuit_open")
    );
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((10..=25).contains(&seconds), "{seconds}");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn the_callers_fault_goes_to_nobody_else() {
    let refuses = Act::Answer(
        400,
        &[],
        r#"{"error":{"message":"temperature is wrong","type":"invalid_request_error"}}"#.into(),
    );
    let (first, second) = (Upstream::play([refuses]).await, Upstream::play([answers()]).await);
    let spec = format!(
        "backends:\n{}{}",
        named("first", &first, ""),
        named("second", &second, "")
    );
    let runtime = start(&spec).await;
    assert_eq!(runtime.chat("").await.error().1, "bad_request");
    assert_eq!(second.seen().len(), 0);
}

#[tokio::test]
async fn too_long_a_prompt_goes_to_a_longer_context_only() {
    let long = r#"{"error":{"message":"Your input exceeds the context window","code":"context_length_exceeded"}}"#;
    let first = Upstream::play([Act::Answer(400, &[], long.into())]).await;
    let (same, longer) = (Upstream::play([answers()]).await, Upstream::play([answers()]).await);
    let spec = format!(
        "backends:\n{}{}{}",
        named("first", &first, ", contextLength: 1000"),
        named("same", &same, ", contextLength: 1000"),
        named("longer", &longer, ", contextLength: 2000")
    );
    let runtime = start(&spec).await;
    assert_eq!(runtime.chat("").await.headers["x-inference-backend"], "longer");
    assert_eq!(same.seen().len(), 0);
}

#[tokio::test]
async fn an_error_before_the_first_content_is_a_real_status() {
    let first_event = event(r#"{"error":{"message":"busy","type":"rate_limit_error"}}"#);
    let upstream = Upstream::play([Act::Stream(vec![role(), first_event], Ending::Regular)]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, NEVER))).await;
    let answer = runtime.chat(r#","stream":true"#).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (429, "rate_limited")
    );
}

#[tokio::test]
async fn a_stream_cut_before_its_content_is_retried() {
    let whole = vec![role(), content("Hi"), stop(), done()];
    let upstream = Upstream::play([
        Act::Stream(vec![role()], Ending::Cut),
        Act::Stream(whole.clone(), Ending::Regular),
    ])
    .await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, QUICK))).await;
    assert_eq!(runtime.chat(r#","stream":true"#).await.text, whole.concat());
}

/// Of two answers only one has come to its end: without `[DONE]` that is a cut.
#[tokio::test]
async fn a_stream_cut_in_the_midst_of_another_choice_is_no_success() {
    let piece = |index: u8, finish: &str| {
        event(&format!(
            r#"{{"choices":[{{"index":{index},"delta":{{"content":"Hi"}},"finish_reason":{finish}}}]}}"#
        ))
    };
    let one = vec![piece(0, "null"), piece(1, "null"), piece(0, "\"stop\"")];
    let both = [one.clone(), vec![piece(1, "\"length\"")]].concat();
    for (events, whole) in [(one, false), (both, true)] {
        let upstream = Upstream::play([Act::Stream(events, Ending::Regular)]).await;
        let runtime = start(&format!("backends:\n{}", remote(&upstream, NEVER))).await;
        let text = runtime.chat(r#","stream":true,"n":2"#).await.text;
        assert_eq!(text.ends_with("data: [DONE]\n\n"), whole, "{text}");
        assert_eq!(text.contains(r#""kind":"network_error""#), !whole, "{text}");
    }
}

/// Each prompt has an answer: the stream is whole when all of them have come to their ends.
#[tokio::test]
async fn a_batch_of_completions_that_is_cut_is_no_success() {
    let piece = |index: u8| {
        event(&format!(
            r#"{{"choices":[{{"index":{index},"text":"Hi","finish_reason":"stop"}}]}}"#
        ))
    };
    let body = r#"{"model":"assistant","prompt":["a","b","c"],"stream":true}"#;
    for (events, whole) in [
        (vec![piece(0), piece(1)], false),
        (vec![piece(0), piece(1), piece(2)], true),
    ] {
        let upstream = Upstream::play([Act::Stream(events, Ending::Regular)]).await;
        let runtime = start(&format!("backends:\n{}", remote(&upstream, NEVER))).await;
        let text = runtime.post("/v1/completions", body).await.text;
        assert_eq!(text.ends_with("data: [DONE]\n\n"), whole, "{text}");
        assert_eq!(text.contains(r#""kind":"network_error""#), !whole, "{text}");
    }
}

/// It was paid for: who asks again pays again.
#[tokio::test]
async fn an_answer_of_no_use_is_not_asked_for_again_where_it_came_from() {
    let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":900,"total_tokens":909}"#;
    let failed = CHAT.replace("\"stop\"", "\"insufficient_system_resource\"");
    for body in [format!(r#"{{"choices":[],{usage}}}"#), failed] {
        let first = Upstream::play([Act::Answer(200, &[], body.clone()), answers()]).await;
        let second = Upstream::play([answers()]).await;
        let spec = format!(
            "backends:\n{}{}",
            named("first", &first, QUICK),
            named("second", &second, QUICK)
        );
        let runtime = start(&spec).await;
        assert_eq!(
            runtime.chat("").await.headers["x-inference-backend"],
            "second",
            "{body}"
        );
        assert_eq!((first.seen().len(), second.seen().len()), (1, 1), "{body}");
    }
}

/// Providers say in the reason to stop, or beside it, that they failed.
#[tokio::test]
async fn an_answer_that_its_provider_broke_off_is_a_failure() {
    let reason =
        event(r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"insufficient_system_resource"}]}"#);
    let beside = event(r#"{"choices":[{"index":0,"delta":{"content":""},"error":{"code":502,"message":"down"}}]}"#);
    for last in [reason, beside] {
        for (events, late) in [
            (vec![role(), last.clone(), done()], false),
            (vec![role(), content("Hi"), last.clone(), done()], true),
            (vec![role(), content("Hi"), last.clone()], true),
        ] {
            let upstream = Upstream::play([Act::Stream(events, Ending::Regular)]).await;
            let runtime = start(&format!("backends:\n{}", remote(&upstream, NEVER))).await;
            let answer = runtime.chat(r#","stream":true"#).await;
            assert_eq!(answer.status.as_u16(), if late { 200 } else { 502 }, "{}", answer.text);
            assert!(answer.text.contains(r#""kind":"server_error""#), "{}", answer.text);
            assert!(!answer.text.contains("[DONE]"), "{}", answer.text);
        }
    }
}

/// However many clients there are and however often each may try again: a sick provider sees a tenth more, and what was saved up.
#[tokio::test]
async fn retries_are_a_tenth_of_the_traffic() {
    const REQUESTS: usize = 300;
    let upstream = Upstream::play([fails(500)]).await;
    let eager =
        ", retry: {maxRetries: 3, initialBackoff: 1ms, maxBackoff: 1ms}, circuitBreaker: {override: ForceClosed}";
    let runtime = start(&format!("backends:\n{}", remote(&upstream, eager))).await;
    for _ in 0..REQUESTS {
        assert_eq!(runtime.chat("").await.error().1, "server_error");
    }
    let calls = upstream.seen().len();
    println!("FIGURE calls at a failing provider for {REQUESTS} requests: {calls}");
    assert!((REQUESTS + 30..=REQUESTS + 40).contains(&calls), "{calls}");
}

#[tokio::test]
async fn a_stream_cut_after_its_content_ends_with_a_typed_event() {
    for (ending, timeouts, kind) in [
        (Ending::Cut, "", "network_error"),
        (Ending::Regular, "", "network_error"),
        (Ending::Hang, ", timeouts: {idle: 200ms}", "timeout"),
    ] {
        let upstream = Upstream::play([Act::Stream(vec![role(), content("Hi")], ending)]).await;
        let runtime = start(&format!("backends:\n{}", remote(&upstream, timeouts))).await;
        let answer = runtime.chat(r#","stream":true"#).await;
        assert_eq!(answer.status.as_u16(), 200);
        let (before, last) = answer.text.split_once("event: error\ndata: ").expect("an error event");
        assert_eq!(before, [role(), content("Hi")].concat());
        let error: serde_json::Value = serde_json::from_str(last.trim()).unwrap();
        assert_eq!(error["error"]["inference_error"]["kind"], kind);
        assert!(!answer.text.contains("[DONE]"));
        assert_eq!(upstream.seen().len(), 1, "nothing is retried after the first byte");
    }
}

#[tokio::test]
async fn a_provider_that_hangs_times_out() {
    let upstream = Upstream::play([Act::Hang]).await;
    let timeouts = format!("{NEVER}, timeouts: {{connect: 100ms, firstToken: 200ms, idle: 100ms, total: 300ms}}");
    let runtime = start(&format!("backends:\n{}", remote(&upstream, &timeouts))).await;
    for fields in ["", r#","stream":true"#] {
        let answer = runtime.chat(fields).await;
        assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (504, "timeout"));
    }
}

#[tokio::test]
async fn nobody_listening_is_a_network_error() {
    let upstream = Upstream::play([Act::Hang]).await;
    let (_held, closed) = refusing();
    let spec =
        format!("backends:\n{}", remote(&upstream, NEVER)).replace(&upstream.address.to_string(), &closed.to_string());
    let runtime = start(&spec).await;
    let answer = runtime.chat("").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (502, "network_error")
    );
}

#[tokio::test]
async fn a_client_that_hangs_up_drops_the_provider_at_once() {
    let upstream = Upstream::play([Act::Stream(vec![role(), content("Hi")], Ending::Hang)]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let response = runtime
        .open("/v1/chat/completions", &[], &chat_body(r#","stream":true"#))
        .await;
    assert_eq!(response.status().as_u16(), 200);
    drop(response);
    tokio::time::timeout(super::process::DEADLINE, upstream.closed.notified())
        .await
        .expect("the connection is dropped");
    until("the cancelled request", || async {
        runtime
            .metrics()
            .await
            .contains(r#"inference_requests_total{backend="openai",outcome="cancelled"} 1"#)
    })
    .await;
    assert_eq!(runtime.circuit("openai", "Endpoint").await, "Closed");
}
