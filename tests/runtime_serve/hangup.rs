//! Clients that leave, wherever their request is: the provider's connection is closed at once, and nothing is sent that was not sent.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    process::{DEADLINE, Runtime, chat_body, start, until},
    requests::{CHAT, content, remote, role},
    upstream::{Act, Ending, Upstream},
};

/// The provider's connection is closed within this time of the hang-up.
const AT_ONCE: Duration = Duration::from_millis(50);
const TIMES: usize = 20;

/// A chat on a connection of its own; dropped, the client hangs up.
pub async fn call(runtime: &Runtime, headers: &str, fields: &str) -> TcpStream {
    let body = chat_body(fields);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    let mut socket = TcpStream::connect(runtime.api).await.unwrap();
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    socket
}

/// The value of a metric's line; 0 when there is none.
pub async fn metric(runtime: &Runtime, line: &str) -> u64 {
    let text = runtime.metrics().await;
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_default()
}

/// Hangs up `TIMES` requests, each once it has begun, and gives the times until the provider's connection was closed, the shortest first.
async fn times(runtime: &Runtime, upstream: &Upstream, fields: &str, waits_for_head: bool) -> Vec<Duration> {
    let mut times = Vec::new();
    for sent in 1..=TIMES {
        let mut client = call(runtime, "", fields).await;
        until("the provider has it", || async { upstream.seen().len() == sent }).await;
        if waits_for_head {
            let mut first = [0; 64];
            timeout(DEADLINE, client.read_exact(&mut first)).await.unwrap().unwrap();
        }
        let before = Instant::now();
        drop(client);
        timeout(DEADLINE, upstream.closed.notified()).await.expect("closed");
        times.push(before.elapsed());
    }
    times.sort();
    times
}

#[tokio::test]
async fn a_hang_up_closes_the_provider_within_50_ms_streaming_or_not() {
    let streams = Act::Stream(vec![role(), content("Hi")], Ending::Hang);
    let silent = Act::Stream(vec![role()], Ending::Hang);
    for (name, act, fields, waits_for_head) in [
        ("not streaming", Act::Hang, "", false),
        ("streaming, before the head", Act::Hang, r#","stream":true"#, false),
        (
            "streaming, before the first content",
            silent,
            r#","stream":true"#,
            false,
        ),
        ("streaming, after the first content", streams, r#","stream":true"#, true),
    ] {
        let upstream = Upstream::play([act]).await;
        let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
        let times = times(&runtime, &upstream, fields, waits_for_head).await;
        println!("{name}: provider closed after the hang-up, of {TIMES}: {times:.1?}");
        // Two may have met a machine that was busy with other tests.
        assert!(times[TIMES - 3] <= AT_ONCE, "{name}: {times:?}");
        assert_eq!(upstream.seen().len(), TIMES, "nothing is sent again");
    }
}

#[tokio::test]
async fn who_leaves_the_queue_costs_nothing() {
    let upstream = Upstream::play([Act::Hang]).await;
    let spec = format!("serving: {{maxConcurrent: 1}}\nbackends:\n{}", remote(&upstream, ""));
    let runtime = start(&spec).await;
    let works = call(&runtime, "", "").await;
    until("one at work", || async { upstream.seen().len() == 1 }).await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(call(&runtime, "", "").await);
    }
    until("20 wait", || async {
        metric(&runtime, "inference_queue_depth").await == 20
    })
    .await;
    let stays = waiting.pop();
    let before = Instant::now();
    drop(waiting);
    until("they are gone", || async {
        metric(&runtime, "inference_queue_depth").await == 1
    })
    .await;
    println!(
        "19 who left were out of the queue after {:.1} ms",
        before.elapsed().as_secs_f64() * 1e3
    );
    drop(works);
    until("the one who stayed has its turn", || async {
        upstream.seen().len() == 2
    })
    .await;
    drop(stays);
    until("nobody is left", || async {
        metric(&runtime, "inference_requests_in_flight").await == 0
    })
    .await;
    println!(
        "requests at the provider, of 21 clients of whom 19 left the queue: {}",
        upstream.seen().len()
    );
    assert_eq!(upstream.seen().len(), 2);
    let cancelled = r#"inference_requests_total{backend="",outcome="cancelled"}"#;
    until("all are counted", || async { metric(&runtime, cancelled).await == 21 }).await;
}

#[tokio::test]
async fn who_leaves_while_a_retry_waits_is_not_retried() {
    let later = Act::Answer(503, &[("retry-after", "1")], r#"{"error":{"message":"busy"}}"#.into());
    let upstream = Upstream::play([later, Act::Answer(200, &[], CHAT.into())]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ", retry: {maxRetries: 3}"))).await;
    let client = call(&runtime, "", "").await;
    until("the retry waits", || async {
        metric(&runtime, r#"inference_upstream_retries_total{backend="openai"}"#).await == 1
    })
    .await;
    let before = Instant::now();
    drop(client);
    let cancelled = r#"inference_requests_total{backend="",outcome="cancelled"}"#;
    until("cancelled", || async { metric(&runtime, cancelled).await == 1 }).await;
    println!(
        "a request whose retry waited was dropped {:.1} ms after the hang-up",
        before.elapsed().as_secs_f64() * 1e3
    );
    // The time of the retry passes while another client is served.
    until("the retry's time is over", || async {
        assert_eq!(metric(&runtime, "inference_requests_in_flight").await, 0);
        before.elapsed() > Duration::from_millis(1_200)
    })
    .await;
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn who_leaves_in_the_middle_of_the_body_reaches_nobody() {
    let upstream = Upstream::play([Act::Hang]).await;
    let runtime = start(&format!("backends:\n{}", remote(&upstream, ""))).await;
    let mut socket = TcpStream::connect(runtime.api).await.unwrap();
    let half = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"model\":\"assistant\"";
    socket.write_all(half.as_bytes()).await.unwrap();
    drop(socket);
    until("its end is noticed", || async {
        let text = runtime.metrics().await;
        ["cancelled", "bad_request"].iter().any(|outcome| {
            text.contains(&format!(
                r#"inference_requests_total{{backend="",outcome="{outcome}"}} 1"#
            ))
        })
    })
    .await;
    assert_eq!(upstream.seen().len(), 0);
}
