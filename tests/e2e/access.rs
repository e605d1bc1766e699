//! Who may ask, in the real cluster: the shared key of a Secret, and tokens that this API server signed.

use serde_json::{Value, json};

use crate::harness::{self, Namespace, Provider, SOON, post, post_as, until, with};

const AUDIENCE: &str = "assistant.example.com";

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
}

async fn deployment(namespace: &Namespace, provider: &Provider, name: &str, access: Value) -> String {
    namespace
        .apply(&with(harness::remote(name, &provider.endpoint), "/spec/access", access))
        .await;
    namespace.wait(name, "Ready", "True").await;
    let url = format!("{}/v1/chat/completions", namespace.service(name));
    // The Service's addresses reach the node after the condition.
    until("an answer to nobody", SOON, async || post(&url, &chat(name)).await).await;
    url
}

/// Status and code of the answer to a caller with this key or token.
async fn asked(url: &str, model: &str, bearer: &str) -> (u16, String) {
    let answer = post_as(url, bearer, &chat(model)).await.expect("an answer");
    assert!(!answer.body.contains(bearer), "what the caller sent is not repeated");
    let code = if answer.status == 200 {
        String::new()
    } else {
        answer.code()
    };
    (answer.status.as_u16(), code)
}

fn wrong() -> (u16, String) {
    (401, "invalid_api_key".to_owned())
}

#[tokio::test]
async fn a_shared_key_opens_the_door() {
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("access-key").await;
    namespace.apply(&harness::secret("sk")).await;
    let callers =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "callers"}, "stringData": {"key": "ours"}});
    namespace.apply(&callers).await;
    let access = json!({"type": "ApiKey", "apiKey": {"secret": {"name": "callers", "key": "key"}}});
    let url = deployment(&namespace, &provider, "by-key", access).await;
    let nobody = post(&url, &chat("by-key")).await.expect("an answer");
    assert_eq!((nobody.status.as_u16(), nobody.code()), wrong());
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
    assert_eq!(asked(&url, "by-key", "not-ours").await, wrong());
    assert_eq!(
        asked(&url, "by-key", "sk").await,
        wrong(),
        "the provider's key is no caller's"
    );
    assert_eq!(provider.calls(), 0);
    assert_eq!(asked(&url, "by-key", "ours").await.0, 200);
    namespace.done().await;
}

#[tokio::test]
async fn service_accounts_are_told_apart() {
    let provider = Provider::start("sk").await;
    let namespace = Namespace::create("access-account").await;
    namespace.apply(&harness::secret("sk")).await;
    for name in ["app", "stranger"] {
        namespace
            .apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}))
            .await;
    }
    let token = |account: &str, audience: &str| {
        let audience = format!("--audience={audience}");
        let token = namespace.kubectl(&["create", "token", account, &audience, "--duration=10m"]);
        token.trim().to_owned()
    };
    let subject = format!("system:serviceaccount:{}:app", namespace.name);
    let access = json!({"type": "ServiceAccount", "serviceAccount": {"audiences": [AUDIENCE], "subjects": [subject]}});
    let url = deployment(&namespace, &provider, "by-account", access).await;

    assert_eq!(asked(&url, "by-account", "no token").await, wrong());
    let not_here = (403, "permission_denied".to_owned());
    let elsewhere = token("app", "elsewhere.example.com");
    assert_eq!(asked(&url, "by-account", &elsewhere).await, not_here);
    let good = token("app", AUDIENCE);
    let (signed, signature) = good.rsplit_once('.').expect("a token has three parts");
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    assert_eq!(asked(&url, "by-account", &forged).await, wrong());
    let stranger = asked(&url, "by-account", &token("stranger", AUDIENCE)).await;
    assert_eq!(stranger, not_here);
    assert_eq!(provider.calls(), 0);
    assert_eq!(asked(&url, "by-account", &good).await.0, 200);
    namespace.done().await;
}
