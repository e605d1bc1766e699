use std::fs;

use secrecy::ExposeSecret;

use super::*;
use crate::api::CircuitState;

struct House {
    folder: tempfile::TempDir,
    means: Means,
}

impl House {
    fn new(keys: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let means = Means {
            keys: Keys::Directory(folder.path().to_owned()),
            allowed: AllowedAddresses::default(),
            salt: String::new(),
        };
        let house = Self { folder, means };
        for (secret, key) in keys {
            house.write(secret, key);
        }
        house
    }

    fn write(&self, secret: &str, key: &str) {
        fs::create_dir_all(self.folder.path().join(secret)).unwrap();
        fs::write(self.folder.path().join(secret).join("api-key"), key).unwrap();
    }

    fn remote(&self, secret: &str) -> Remote {
        Remote::new("far", &spec(secret), &self.means, Clock::start(), &Arc::default())
    }
}

fn spec(secret: &str) -> RemoteBackend {
    serde_json::from_value(serde_json::json!({
        "provider": "OpenAI", "endpoint": "https://api.example/v1", "model": "m",
        "credentials": {"secret": {"name": secret, "key": "api-key"}},
    }))
    .unwrap()
}

fn key(remote: &Remote) -> String {
    remote
        .session()
        .unwrap()
        .key
        .as_ref()
        .unwrap()
        .expose_secret()
        .to_owned()
}

fn refused() -> InferenceError {
    InferenceError::Unauthorized { message: "no".into() }
}

#[test]
fn many_refusals_at_once_build_one_session() {
    let house = House::new(&[("one", "sk-old")]);
    let remote = house.remote("one");
    let used = remote.session().unwrap();
    house.write("one", "sk-new");
    std::thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| remote.renew(&used));
        }
    });
    let renewed = remote.session().unwrap();
    assert!(!Arc::ptr_eq(&renewed, &used));
    assert_eq!(key(&remote), "sk-new");
    remote.renew(&used);
    assert!(
        Arc::ptr_eq(&remote.session().unwrap(), &renewed),
        "who used the old session finds the new one"
    );
    assert_eq!(
        used.key.as_ref().unwrap().expose_secret(),
        "sk-old",
        "requests in flight keep theirs"
    );
}

#[test]
fn a_refusal_of_the_old_key_says_nothing_of_the_new_one() {
    let house = House::new(&[("one", "sk-old")]);
    let remote = house.remote("one");
    let used = remote.session().unwrap();
    let open = || remote.health.credential.view().state == CircuitState::Open;
    house.write("one", "sk-new");
    remote.refresh_key();
    remote.refuse_session(&used, &refused().into(), None);
    assert!(!open());
    remote.refuse_session(&remote.session().unwrap(), &refused().into(), None);
    assert!(open());
}

#[test]
fn another_secret_with_another_key_earns_a_probe() {
    let house = House::new(&[("one", "sk-one"), ("same", "sk-one"), ("two", "sk-two")]);
    for (secret, probed) in [("one", false), ("same", false), ("missing", false), ("two", true)] {
        let remote = house.remote("one");
        remote.refuse_session(&remote.session().unwrap(), &refused().into(), None);
        assert!(remote.admit().is_err());
        let changed = remote.changed(&spec(secret), &house.means, Clock::start());
        assert_eq!(changed.admit().is_ok(), probed, "{secret}");
    }
}

#[test]
fn a_key_that_is_gone_blocks_and_earns_nothing_and_a_new_one_does() {
    let house = House::new(&[("one", "sk-one")]);
    let remote = house.remote("one");
    remote.refuse_session(&remote.session().unwrap(), &refused().into(), None);
    fs::remove_dir_all(house.folder.path().join("one")).unwrap();
    remote.refresh_key();
    assert_eq!(remote.unusable().unwrap().reason(), reason::CREDENTIALS_MISSING);
    assert!(remote.admit().is_err());
    house.write("one", "sk-two");
    remote.refresh_key();
    assert!(remote.unusable().is_none());
    assert_eq!(key(&remote), "sk-two");
    assert!(remote.admit().is_ok());
}

#[test]
fn an_address_that_is_not_allowed_is_known_before_any_request() {
    let house = House::new(&[("one", "sk-one")]);
    let mut metadata = spec("one");
    metadata.endpoint = "http://169.254.169.254/v1".into();
    let remote = house.remote("one").changed(&metadata, &house.means, Clock::start());
    let unusable = remote.session().unwrap_err();
    assert_eq!(unusable.reason(), reason::ENDPOINT_NOT_ALLOWED);
    assert!(matches!(unusable.classified().error, InferenceError::Forbidden { .. }));
    remote.refresh_key();
    assert!(remote.session().is_err(), "no key mends it");
}

#[test]
fn a_bound_that_was_violated_holds_again_once_what_it_was_made_of_is_changed() {
    let house = House::new(&[("one", "sk-1")]);
    let violated = |change: serde_json::Value| {
        let remote = house.remote("one");
        remote.violated().store(true, Ordering::Relaxed);
        let mut changed = serde_json::to_value(&remote.spec).unwrap();
        changed
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let changed = serde_json::from_value(changed).unwrap();
        remote.changed(&changed, &house.means, Clock::start()).bound_violated()
    };
    let price = serde_json::json!({"inputPerMillionTokens": "1", "outputPerMillionTokens": "2"});
    for (change, expected) in [
        (serde_json::json!({}), true),
        (serde_json::json!({"retry": {"maxRetries": 1}}), true),
        (serde_json::json!({"contextLength": 8192}), false),
        (serde_json::json!({"price": price}), false),
        (serde_json::json!({"model": "other"}), false),
        (serde_json::json!({"endpoint": "https://other.example/v1"}), false),
    ] {
        assert_eq!(violated(change.clone()), expected, "{change}");
    }
}

#[test]
fn a_backend_that_broke_its_bound_says_so() {
    let house = House::new(&[("one", "sk-1")]);
    let remote = house.remote("one");
    let reason = || crate::runtime::backends::status::remote_blocked(&remote).map(|(reason, _)| reason);
    assert_eq!(reason(), None);
    remote.violated().store(true, Ordering::Relaxed);
    assert_eq!(reason(), Some(reason::BOUND_VIOLATED));
}

#[test]
fn only_what_costs_something_is_paid_for() {
    let house = House::new(&[("one", "sk-1")]);
    let is_paid = |input: &str, output: &str| {
        let mut spec = spec("one");
        let price = serde_json::json!({"inputPerMillionTokens": input, "outputPerMillionTokens": output});
        spec.price = serde_json::from_value(price).unwrap();
        Remote::new("far", &spec, &house.means, Clock::start(), &Arc::default())
            .prices
            .is_some()
    };
    assert_eq!(
        [is_paid("0", "0.00"), is_paid("0", "0.000000001"), is_paid("1", "0")],
        [false, true, true]
    );
    assert!(house.remote("one").prices.is_none());
}
