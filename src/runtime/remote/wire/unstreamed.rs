//! Some servers answer a request for a stream with a whole answer. The client reads events and gets them.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::openai;

/// The events that say the same as a whole answer in OpenAI's format: all choices at once, the usage for a client that asked for it,
/// and the end. `None` when it holds no choices.
pub(super) fn events(answer: &[u8], include_usage: bool) -> Option<Bytes> {
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(answer) else {
        return None;
    };
    for choice in answer.get_mut("choices")?.as_array_mut()? {
        as_delta(choice.as_object_mut()?);
    }
    if answer.get("object").is_some_and(|object| object == "chat.completion") {
        answer.insert("object".into(), json!("chat.completion.chunk"));
    }
    let usage = answer.remove("usage").filter(|_| include_usage);
    let mut events = event(&answer);
    if let Some(usage) = usage {
        answer.insert("choices".into(), json!([]));
        answer.insert("usage".into(), usage);
        events.push_str(&event(&answer));
    }
    let mut events = events.into_bytes();
    events.extend_from_slice(&openai::DONE);
    Some(events.into())
}

fn event(answer: &Map<String, Value>) -> String {
    format!("data: {}\n\n", json!(answer))
}

/// A choice's message is its delta; calls of tools are numbered in a stream.
fn as_delta(choice: &mut Map<String, Value>) {
    let Some(mut message) = choice.remove("message") else {
        return;
    };
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for (index, call) in calls.into_iter().flatten().enumerate() {
        if let Value::Object(call) = call {
            call.insert("index".into(), json!(index));
        }
    }
    choice.insert("delta".into(), message);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(answer: &Value, include_usage: bool) -> Vec<Value> {
        let events = events(answer.to_string().as_bytes(), include_usage).unwrap();
        let text = String::from_utf8(events.to_vec()).unwrap();
        let (events, done) = text.split_at(text.len() - openai::DONE.len());
        assert_eq!(done.as_bytes(), &openai::DONE);
        let events = events.split_terminator("\n\n");
        events
            .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn messages_become_deltas_and_the_usage_an_event_of_its_own() {
        let answer = json!({"id": "c", "object": "chat.completion", "model": "m", "usage": {"total_tokens": 3}, "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}},
            {"index": 1, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null,
                "tool_calls": [{"id": "a", "type": "function"}, {"id": "b", "type": "function"}]}}]});
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [
            {"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": "Hi"}},
            {"index": 1, "finish_reason": "tool_calls", "delta": {"role": "assistant", "content": null,
                "tool_calls": [{"id": "a", "type": "function", "index": 0}, {"id": "b", "type": "function", "index": 1}]}}]});
        let usage = json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": {"total_tokens": 3}});
        assert_eq!(parsed(&answer, false), std::slice::from_ref(&chunk));
        assert_eq!(parsed(&answer, true), [chunk, usage]);
    }

    #[test]
    fn a_completion_keeps_its_text() {
        let answer =
            json!({"object": "text_completion", "choices": [{"index": 0, "text": "Hi", "finish_reason": "length"}]});
        assert_eq!(parsed(&answer, true), [answer]);
    }

    #[test]
    fn what_has_no_choices_is_no_answer() {
        for nothing in ["[]", "{}", r#"{"choices":3}"#, r#"{"choices":[3]}"#, "no JSON"] {
            assert_eq!(events(nothing.as_bytes(), true), None, "{nothing}");
        }
    }
}
