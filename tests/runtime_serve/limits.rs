//! Providers that send without end, or bytes that are no answer: bounded memory and a typed error.

use std::fs;

use super::{
    fake_provider::{Act, Ending, Flood, Framing, Manner, Provider},
    process::{Runtime, start},
    requests::{CHAT, content, event, role},
};

/// What one such answer may add to the process, KiB.
const MOST_KIB: u64 = 80 * 1024;

async fn against(act: Act) -> (Provider, Runtime) {
    let provider = Provider::start(Manner::default()).await;
    provider.repeat([act]);
    let spec = format!(
        "backends:\n- name: up\n  remote: {{provider: OpenAI, endpoint: \"http://{}/v1\", model: m, \
         credentials: {{secret: {{name: openai, key: api-key}}}}, retry: {{maxRetries: 0}}, \
         timeouts: {{firstToken: 10s, idle: 8s, total: 15s}}}}\n",
        provider.address
    );
    let runtime = start(&spec).await;
    (provider, runtime)
}

/// The most memory that the process has had, KiB.
fn peak(runtime: &Runtime) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", runtime.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_flood_is_cut_within_bounds() {
    let stream = r#","stream":true"#;
    let failing = Act {
        status: Some(500),
        ..Act::flood(Flood::Body)
    };
    let late = Act {
        events: Some(vec![role(), content("Hi")]),
        ..Act::flood(Flood::Event)
    };
    // They are held back until content comes, but not all of them.
    let long = event(&format!(r#"{{"choices":[],"padding":"{}"}}"#, "x".repeat(1024 * 1024)));
    let silent = Act::stream(vec![long; 100], Ending::Hang);
    for (what, act, fields, kind) in [
        ("header", Act::flood(Flood::Headers), "", "network_error"),
        (
            "body",
            Act {
                body: Some(String::new()),
                ..Act::flood(Flood::Body)
            },
            "",
            "server_error",
        ),
        ("body of an error", failing, "", "server_error"),
        (
            "event",
            Act {
                events: Some(vec![]),
                ..Act::flood(Flood::Event)
            },
            stream,
            "server_error",
        ),
        ("event after content", late, stream, "server_error"),
        ("events without content", silent, stream, "timeout"),
    ] {
        let (_provider, runtime) = against(act).await;
        let before = peak(&runtime);
        let answer = runtime.chat(fields).await;
        let grown = peak(&runtime) - before;
        println!("{what}: the process grew by {grown} KiB");
        assert!(
            answer.text.contains(&format!(r#""kind":"{kind}""#)),
            "{what}: {}",
            answer.text
        );
        assert!(grown < MOST_KIB, "{what}: {grown} KiB");
        assert_eq!(runtime.readyz().await.as_u16(), 200);
    }
}

#[tokio::test]
async fn bytes_that_are_no_answer_are_typed() {
    let html = Act::answer(200, &[("content-type", "text/html")], "<html>maintenance</html>");
    let short = Act::answer(200, &[("content-length", "5000")], CHAT);
    let cut = Act {
        cut_at: Some(20),
        ..Act::answer(200, &[], CHAT)
    };
    let cut_reset = Act {
        cut_at: Some(20),
        ending: Ending::Reset,
        framing: Framing::Chunked,
        ..Act::answer(200, &[], CHAT)
    };
    for (what, act, kind) in [
        ("HTML", html, "server_error"),
        ("a wrong length", short, "network_error"),
        ("a cut", cut, "network_error"),
        ("a reset in the body", cut_reset, "network_error"),
        ("a reset before the head", Act::silent(Ending::Reset), "network_error"),
        ("an end before the head", Act::silent(Ending::Close), "network_error"),
    ] {
        let (_provider, runtime) = against(act).await;
        let answer = runtime.chat("").await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().1.as_str()),
            (502, kind),
            "{what}"
        );
    }
}

#[tokio::test]
async fn odd_but_right_answers_are_answers() {
    let interim = Act {
        interim: Some(103),
        ..Act::answer(200, &[], CHAT)
    };
    let until_close = Act {
        framing: Framing::Close,
        ..Act::answer(200, &[], CHAT)
    };
    let drip = Act {
        drip_ms: Some(1),
        ..Act::answer(200, &[], CHAT)
    };
    for (what, act) in [
        ("103 first", interim),
        ("until the close", until_close),
        ("a drip", drip),
    ] {
        let (_provider, runtime) = against(act).await;
        assert_eq!(runtime.chat("").await.text, CHAT, "{what}");
    }
}
