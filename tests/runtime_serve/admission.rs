//! More requests than there is room for, and bodies that are too large.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    hangup::{call, metric},
    process::{DEADLINE, Runtime, chat_body, start, start_with_keys, until},
    requests::{CHAT, remote},
    upstream::{Act, Upstream},
};

/// Reads until the answer's text holds `end`.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&text).contains(end) {
            if socket.read_buf(&mut text).await.unwrap() == 0 {
                break;
            }
        }
    };
    timeout(DEADLINE, reading).await.expect("an answer in time");
    String::from_utf8(text).unwrap()
}

async fn refused(runtime: &Runtime, priority: &str) -> (u64, Duration) {
    let before = Instant::now();
    let headers = [("x-inference-priority", priority)];
    let answer = runtime
        .post_with("/v1/chat/completions", &headers, &chat_body(""))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1.as_str()),
        (503, "backpressure"),
        "{}",
        answer.text
    );
    (
        answer.headers["retry-after"].to_str().unwrap().parse().unwrap(),
        before.elapsed(),
    )
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_critical_requests_take_the_place_of_others() {
    let upstream = Upstream::play([Act::Hang]).await;
    let spec = format!(
        "serving: {{maxConcurrent: 1, queue: {{capacity: 2, timeout: 20s}}}}\nbackends:\n{}",
        remote(&upstream, "")
    );
    let runtime = start(&spec).await;
    let _works = call(&runtime, "", "").await;
    until("one at work", || async { upstream.seen().len() == 1 }).await;
    let _first = call(&runtime, "", "").await;
    until("one waits", || async {
        metric(&runtime, "inference_queue_depth").await == 1
    })
    .await;
    let mut newest = call(&runtime, "", "").await;
    until("two wait", || async {
        metric(&runtime, "inference_queue_depth").await == 2
    })
    .await;
    let (retry_after, after) = refused(&runtime, "normal").await;
    println!(
        "full: refused after {:.1} ms, Retry-After {retry_after} s",
        after.as_secs_f64() * 1e3
    );
    assert!(after < Duration::from_secs(5) && (1..=300).contains(&retry_after));
    let _critical = call(&runtime, "x-inference-priority: critical\r\n", "").await;
    let displaced = read_until(&mut newest, "request_id").await;
    assert!(
        displaced.starts_with("HTTP/1.1 503") && displaced.contains("more urgent"),
        "{displaced}"
    );
    for (reason, count) in [("full", 1), ("displaced", 1)] {
        let line = format!(r#"inference_requests_shed_total{{reason="{reason}"}}"#);
        assert_eq!(metric(&runtime, &line).await, count, "{reason}");
    }
}

#[tokio::test]
async fn a_turn_that_would_come_too_late_is_refused_before_it_waits() {
    let upstream = Upstream::play([Act::Hang]).await;
    let spec = format!(
        "serving: {{maxConcurrent: 1, queue: {{timeout: 1s}}}}\nbackends:\n{}",
        remote(&upstream, "")
    );
    let runtime = start(&spec).await;
    let works = call(&runtime, "", "").await;
    until("one at work", || async { upstream.seen().len() == 1 }).await;
    let begun = Instant::now();
    // Nothing was ever finished: the age of what is at work is the measure.
    until("a second has passed", || async {
        begun.elapsed() > Duration::from_millis(1_300)
    })
    .await;
    let (retry_after, after) = refused(&runtime, "normal").await;
    println!(
        "predicted: refused after {:.1} ms, Retry-After {retry_after} s",
        after.as_secs_f64() * 1e3
    );
    assert!(retry_after >= 2, "{retry_after}");
    assert_eq!(
        metric(&runtime, r#"inference_requests_shed_total{reason="predicted_wait"}"#).await,
        1
    );
    drop(works);
}

#[tokio::test]
async fn a_client_that_says_how_long_it_waits_is_refused_when_its_turn_would_come_later() {
    let upstream = Upstream::play([Act::Hang]).await;
    let spec = format!("serving: {{maxConcurrent: 1}}\nbackends:\n{}", remote(&upstream, ""));
    let runtime = start(&spec).await;
    let _works = call(&runtime, "", "").await;
    until("one at work", || async { upstream.seen().len() == 1 }).await;
    let before = Instant::now();
    let headers = [("x-stainless-read-timeout", "0.5")];
    let answer = runtime
        .post_with("/v1/chat/completions", &headers, &chat_body(""))
        .await;
    println!(
        "0.5 s of patience: {} after {:.0} ms",
        answer.status,
        before.elapsed().as_secs_f64() * 1e3
    );
    assert_eq!(answer.error().1, "backpressure");
    assert!(before.elapsed() < Duration::from_secs(5), "not the queue's 30 s");
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_not_read() {
    let upstream = Upstream::play([Act::Hang]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let mut socket = TcpStream::connect(runtime.api).await.unwrap();
    let before = Instant::now();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{{",
        10_u64 << 30
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut socket, "request_id").await;
    println!(
        "10 GiB announced, 1 byte sent: answered after {:.1} ms",
        before.elapsed().as_secs_f64() * 1e3
    );
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("request_too_large"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_refused_caller_reads_the_refusal_however_much_it_sends() {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let access = "access: {type: ApiKey, apiKey: {secret: {name: callers, key: token}}}";
    let spec = format!("{access}\nbackends:\n{}", remote(&upstream, ""));
    let keys = [("openai", "api-key", "sk-right"), ("callers", "token", "open-sesame")];
    let runtime = start_with_keys(&spec, &keys).await;
    let large = chat_body(&format!(r#","x":"{}""#, "x".repeat(12 << 20)));
    for _ in 0..5 {
        assert_eq!(
            runtime.post("/v1/chat/completions", &large).await.error().0,
            "invalid_api_key"
        );
    }
    let line = r#"inference_access_refusals_total{port="client",reason="missing"}"#;
    assert_eq!(metric(&runtime, line).await, 5);
}

#[tokio::test]
async fn the_memory_of_bodies_is_bounded() {
    let upstream = Upstream::play([Act::Hang]).await;
    let spec = format!("serving: {{maxConcurrent: 1}}\nbackends:\n{}", remote(&upstream, ""));
    let runtime = start(&spec).await;
    let body = chat_body(&format!(r#","x":"{}""#, "x".repeat(15 << 20)));
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let shed = r#"inference_requests_shed_total{reason="memory"}"#;
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut socket = TcpStream::connect(runtime.api).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        timeout(DEADLINE, socket.write_all(body.as_bytes()))
            .await
            .unwrap()
            .unwrap();
        clients.push(socket);
        // One after another, so that none has half of its memory when there is no more.
        let all = clients.len() as u64;
        until("it is held or refused", || async {
            let in_hand = metric(&runtime, "inference_queue_depth").await
                + metric(&runtime, "inference_requests_in_flight").await;
            in_hand + metric(&runtime, shed).await == all
        })
        .await;
    }
    until("what does not fit is refused", || async {
        metric(&runtime, shed).await == 8
    })
    .await;
    println!(
        "16 bodies of 15 MiB: 8 held, 8 refused, RSS {} MiB",
        runtime.rss() >> 20
    );
    assert!(runtime.rss() < 256 << 20, "{}", runtime.rss());
    let answer = read_until(&mut clients[15], "request_id").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after"),
        "{answer}"
    );
}
