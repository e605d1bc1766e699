//! The four timers of an attempt, each with the others out of reach.

use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use super::{
    fake_provider::{Act, Ending, Flood, Manner, Provider},
    process::{Answer, Runtime, start, until},
    requests::{content, role},
};

/// What a timer may take longer than it says, on a machine with other work.
const SLACK: Duration = Duration::from_secs(3);

fn spec(address: &str, timeouts: &str) -> String {
    format!(
        "backends:\n- name: up\n  remote: {{provider: OpenAI, endpoint: \"http://{address}/v1\", model: m, \
         credentials: {{secret: {{name: openai, key: api-key}}}}, retry: {{maxRetries: 0}}, timeouts: {{{timeouts}}}}}\n"
    )
}

async fn timed(runtime: &Runtime, fields: &str) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = runtime.chat(fields).await;
    (answer, began.elapsed())
}

fn within(what: &str, took: Duration, least: u64) {
    let least = Duration::from_millis(least);
    println!("{what}: {} ms of {} ms", took.as_millis(), least.as_millis());
    assert!(took >= least && took < least + SLACK, "{what}: {took:?}");
}

/// A listener whose backlog is full takes no connection and refuses none.
#[tokio::test]
async fn connect_bounds_the_connection() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(connection)) =
        tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address)).await
    {
        held.push(connection);
        assert!(held.len() < 100, "the backlog fills");
    }
    let runtime = start(&spec(&address.to_string(), "connect: 300ms, firstToken: 10s")).await;
    for fields in ["", r#","stream":true"#] {
        let (answer, took) = timed(&runtime, fields).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().1.as_str()),
            (502, "network_error")
        );
        within("connect", took, 300);
    }
}

async fn against(act: Act, timeouts: &str) -> (Provider, Runtime) {
    let provider = Provider::start(Manner::default()).await;
    provider.repeat([act]);
    let runtime = start(&spec(&provider.address.to_string(), timeouts)).await;
    (provider, runtime)
}

async fn dropped(provider: &Provider, times: usize) {
    until("the closed connection", || async { provider.hang_ups().len() == times }).await;
}

#[tokio::test]
async fn first_token_bounds_a_stream_until_its_content() {
    let comments = Act {
        events: Some(vec![role()]),
        gap_ms: 20,
        ..Act::flood(Flood::Comments)
    };
    let silent_body = Act::stream([role()], Ending::Hang);
    for (what, act) in [
        ("no head", Act::silent(Ending::Hang)),
        ("no content", silent_body),
        ("comments only", comments),
    ] {
        let (provider, runtime) = against(act, "connect: 100ms, firstToken: 300ms, idle: 5s, total: 10s").await;
        let (answer, took) = timed(&runtime, r#","stream":true"#).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().1.as_str()),
            (504, "timeout"),
            "{what}"
        );
        within(&format!("first token, {what}"), took, 300);
        dropped(&provider, 1).await;
    }
}

#[tokio::test]
async fn idle_bounds_the_silence_after_content_and_comments_are_silence() {
    let hang = Act::stream([role(), content("Hi")], Ending::Hang);
    let comments = Act {
        events: Some(vec![role(), content("Hi")]),
        gap_ms: 20,
        ..Act::flood(Flood::Comments)
    };
    for (what, act) in [("silence", hang), ("comments", comments)] {
        let (provider, runtime) = against(act, "idle: 300ms, firstToken: 5s, total: 10s").await;
        let (answer, took) = timed(&runtime, r#","stream":true"#).await;
        assert!(answer.text.contains(r#""kind":"timeout""#), "{what}: {}", answer.text);
        assert!(!answer.text.contains("[DONE]"));
        within(&format!("idle, {what}"), took, 300);
        dropped(&provider, 1).await;
    }
}

#[tokio::test]
async fn total_bounds_everything() {
    let endless = Act {
        events: Some(vec![role(), content("Hi")]),
        gap_ms: 20,
        ..Act::flood(Flood::Events)
    };
    let timers = "connect: 100ms, firstToken: 400ms, idle: 400ms, total: 500ms";
    let (provider, runtime) = against(endless, timers).await;
    let (answer, took) = timed(&runtime, r#","stream":true"#).await;
    assert!(answer.text.contains(r#""kind":"timeout""#), "{}", answer.text);
    within("total, a stream", took, 500);
    dropped(&provider, 1).await;
}

/// An answer in one piece has no first token: only `total` bounds it, however long its head or its body takes.
#[tokio::test]
async fn total_bounds_an_answer_in_one_piece() {
    let drip = Act {
        drip_ms: Some(10),
        ..Act::answer(200, &[], "x".repeat(10_000))
    };
    for (what, act) in [("no head", Act::silent(Ending::Hang)), ("a slow drip", drip)] {
        let (provider, runtime) = against(act, "connect: 100ms, firstToken: 200ms, idle: 200ms, total: 600ms").await;
        let (answer, took) = timed(&runtime, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().1.as_str()),
            (504, "timeout"),
            "{what}"
        );
        within(&format!("total, {what}"), took, 600);
        dropped(&provider, 1).await;
    }
    let late = Act {
        delay_head_ms: 500,
        ..Act::answer(200, &[], super::requests::CHAT)
    };
    let (_provider, runtime) = against(late, "connect: 100ms, firstToken: 200ms, idle: 200ms, total: 5s").await;
    assert_eq!(
        runtime.chat("").await.status.as_u16(),
        200,
        "firstToken does not bound it"
    );
}

/// What the status says needs no body.
#[tokio::test]
async fn an_error_whose_body_stalls_is_told_by_its_status() {
    let stalls = Act {
        cut_at: Some(5),
        ending: Ending::Hang,
        ..Act::answer(400, &[], r#"{"error":{"message":"bad"}}"#)
    };
    let (_provider, runtime) = against(stalls, "connect: 100ms, firstToken: 5s, idle: 300ms, total: 10s").await;
    let (answer, took) = timed(&runtime, "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (400, "bad_request")
    );
    within("the body of an error", took, 300);
}

/// Retries do not begin the time anew: the second attempt here has 1.5 s of the 3.5.
#[tokio::test]
async fn total_bounds_all_attempts_together() {
    let slow = Act {
        delay_head_ms: 2_000,
        ..Act::answer(500, &[], r#"{"error":{"message":"boom"}}"#)
    };
    let provider = Provider::start(Manner::default()).await;
    provider.repeat([slow]);
    let timers = "connect: 1s, firstToken: 3s, idle: 3s, total: 3500ms";
    let spec = spec(&provider.address.to_string(), timers);
    let eager = "retry: {maxRetries: 3, initialBackoff: 1ms, maxBackoff: 1ms}";
    let runtime = start(&spec.replace("retry: {maxRetries: 0}", eager)).await;
    let (answer, took) = timed(&runtime, "").await;
    assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (504, "timeout"));
    within("total, with a retry", took, 3_500);
    assert_eq!(provider.seen().len(), 2);
}
