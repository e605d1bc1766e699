//! A provider's rate limit: one process keeps to all of it, waits a little, and spills or refuses what is too much.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::{
    hangup::metric,
    process::{Answer, Runtime, start},
    requests::{CHAT, named, remote},
    upstream::{Act, Upstream},
};

async fn limited(limit: &str, serving: &str) -> (Upstream, Runtime) {
    let upstream = Upstream::play([Act::Answer(200, &[], CHAT.into())]).await;
    let backend = remote(&upstream, &format!(", rateLimit: {{{limit}}}"));
    let runtime = start(&format!("serving: {{{serving}}}\nbackends:\n{backend}")).await;
    (upstream, runtime)
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status.as_u16() == status).count()
}

#[tokio::test]
async fn no_more_than_the_limit_is_sent_and_the_rest_is_refused_with_a_wait() {
    let serving = "maxConcurrent: 100, queue: {timeout: 2s}";
    let (upstream, runtime) = limited("requestsPerMinute: 600", serving).await;
    let before = Instant::now();
    let answers = join_all((0..60).map(|_| runtime.chat(""))).await;
    let took = before.elapsed();
    let sent = count(&answers, 200);
    println!(
        "FIGURE of 60 requests at once, at 10 a second and 2 s of patience: {sent} sent, all ended after {took:?}"
    );
    assert_eq!(upstream.seen().len(), sent);
    // Ten a second for as long as it took, and what the bucket held before: half a second at most.
    let most = Duration::from_millis(600) + took;
    assert!(
        sent >= 10 && sent as u128 * 100 <= most.as_millis(),
        "{sent} in {took:?}"
    );
    assert_eq!(count(&answers, 503), 60 - sent);
    for refused in answers.iter().filter(|answer| answer.status.as_u16() == 503) {
        assert_eq!(refused.error().1, "backpressure", "{}", refused.text);
        let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    let short = |outcome: &str| format!("inference_rate_share_short_total{{backend=\"openai\",outcome=\"{outcome}\"}}");
    let refused = metric(&runtime, &short("refused")).await;
    assert_eq!(usize::try_from(refused).unwrap(), 60 - sent);
    assert!(metric(&runtime, &short("waited")).await >= refused);
    let share = runtime.metrics().await;
    assert!(
        share.contains("inference_rate_share{backend=\"openai\",kind=\"requests\"} 600"),
        "{share}"
    );
}

#[tokio::test]
async fn what_finds_no_room_goes_to_the_next_backend() {
    let (first, second) = (
        Upstream::play([Act::Answer(200, &[], CHAT.into())]).await,
        Upstream::play([Act::Answer(200, &[], CHAT.into())]).await,
    );
    let backends = named("limited", &first, ", rateLimit: {requestsPerMinute: 60}") + &named("other", &second, "");
    let runtime = start(&format!("backends:\n{backends}")).await;
    let before = Instant::now();
    let answers = join_all((0..8).map(|_| runtime.chat(""))).await;
    assert_eq!(count(&answers, 200), 8);
    assert!(before.elapsed() < Duration::from_secs(3), "a second of patience");
    let of_first = first.seen().len();
    assert!((1..=3).contains(&of_first), "{of_first}");
    assert_eq!(second.seen().len(), 8 - of_first);
}

/// Each asks for a thousand tokens, ten seconds' worth; the provider reports eleven, and the next need not wait for the others.
#[tokio::test]
async fn tokens_count_as_reported() {
    let (upstream, runtime) = limited("tokensPerMinute: 6000", "maxConcurrent: 10").await;
    let before = Instant::now();
    for _ in 0..5 {
        let answer = runtime.chat(r#","max_tokens":1000"#).await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    }
    let took = before.elapsed();
    println!("FIGURE five requests for 1,000 tokens each of 6,000 a minute, 11 used: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(upstream.seen().len(), 5);
}

/// A provider that reports nothing: what may have been used counts.
#[tokio::test]
async fn tokens_that_nobody_reports_count_as_asked_for() {
    let silent = CHAT.replace(
        r#","usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}"#,
        "",
    );
    let upstream = Upstream::play([Act::Answer(200, &[], silent)]).await;
    let backend = remote(&upstream, ", rateLimit: {tokensPerMinute: 6000}");
    let runtime = start(&format!("serving: {{queue: {{timeout: 1s}}}}\nbackends:\n{backend}")).await;
    assert_eq!(runtime.chat(r#","max_tokens":1000"#).await.status.as_u16(), 200);
    let refused = runtime.chat(r#","max_tokens":1000"#).await;
    assert_eq!(
        (refused.status.as_u16(), refused.error().1.as_str()),
        (503, "backpressure")
    );
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((8..=21).contains(&wait), "{wait}");
}

/// A process begins without credit: the second request waits 2 s for its part of the limit, and the provider has what is left of the two.
#[tokio::test]
async fn the_wait_for_a_part_is_taken_from_the_time_of_the_attempt() {
    let upstream = Upstream::play([Act::Hang]).await;
    let backend = remote(
        &upstream,
        ", rateLimit: {requestsPerMinute: 60}, timeouts: {connect: 2s, firstToken: 4s, idle: 4s, total: 4s}, retry: {maxRetries: 0}",
    );
    let runtime = start(&format!("backends:\n{backend}")).await;
    let timed = || async {
        let before = Instant::now();
        (runtime.chat("").await, before.elapsed())
    };
    for (answer, took) in join_all([timed(), timed()]).await {
        assert_eq!(answer.error().1, "timeout", "{}", answer.text);
        println!("FIGURE timeouts.total 4 s, waiting for a part of the limit included: {took:?}");
        assert!(
            took >= Duration::from_millis(3_900) && took < Duration::from_millis(5_500),
            "{took:?}"
        );
    }
    assert_eq!(upstream.seen().len(), 2);
}
