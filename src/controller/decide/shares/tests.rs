use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::json;

use super::*;
use crate::{
    api::{InferenceDeployment, InferenceReplicaSpec, InferenceReplicaStatus},
    controller::build::fixtures,
};

/// Two replicas of a deployment whose provider takes 600 requests and 60,000 tokens a minute.
struct World {
    deployment: InferenceDeployment,
    live: Live,
    tried: Vec<ShareOrder>,
}

impl World {
    fn new() -> Self {
        let mut deployment = fixtures::remote();
        let limit = json!({"requestsPerMinute": 600, "tokensPerMinute": 60_000});
        deployment.spec.backends[0].remote.as_mut().unwrap().rate_limit = Some(serde_json::from_value(limit).unwrap());
        let mut live = Live::default();
        for name in ["a", "b"] {
            let mut pod = Pod::default();
            (pod.metadata.name, pod.metadata.uid) = (Some(name.into()), Some(format!("uid-{name}")));
            live.pods.push(Arc::new(pod));
            let spec = InferenceReplicaSpec {
                pod_uid: format!("uid-{name}"),
                deployment_name: "assistant".into(),
                deployment_uid: "u-1".into(),
                circuits: Vec::new(),
                budget: None,
                shares: Vec::new(),
                engine_hold: None,
            };
            let mut replica = InferenceReplica::new(name, spec);
            replica.status = Some(InferenceReplicaStatus::default());
            live.replicas.push(replica);
        }
        Self {
            deployment,
            live,
            tried: Vec::new(),
        }
    }

    fn share(&self) -> Vec<Vec<ShareOrder>> {
        let subject = fixtures::subject();
        let situation = Situation {
            subject: &subject,
            deployment: &self.deployment,
            live: &self.live,
            now: Timestamp::UNIX_EPOCH,
            server_now: None,
            read_live: false,
            jitter: 0.0,
        };
        let tried = |replica: &InferenceReplica| {
            let is_first = replica.spec.pod_uid == "uid-a";
            self.tried.iter().filter(|_| is_first).cloned().collect()
        };
        share(&situation, tried).into_iter().map(|(_, shares)| shares).collect()
    }

    /// The shares are written.
    fn tell(&mut self, shares: Vec<Vec<ShareOrder>>) {
        for (replica, shares) in self.live.replicas.iter_mut().zip(shares) {
            replica.spec.shares = shares;
        }
    }

    /// A replica says that it follows, and what it would use.
    fn say(&mut self, index: usize, requests: u64) {
        let replica = &mut self.live.replicas[index];
        let told = replica.spec.shares.first().cloned().unwrap_or_default();
        let rate = |ordered: Option<OrderedRate>, demand: u64| {
            ordered.map(|ordered| ReportedRate {
                milli_per_minute: ordered.milli_per_minute,
                demand_milli_per_minute: demand * MILLI,
            })
        };
        replica.status.as_mut().unwrap().shares = vec![ShareReport {
            backend: "openai".into(),
            sequence: told.sequence,
            requests: rate(told.requests, requests),
            tokens: rate(told.tokens, 0),
        }];
    }

    fn end_pod(&mut self, index: usize, phase: &str) {
        let pod = Arc::make_mut(&mut self.live.pods[index]);
        pod.status = Some(PodStatus {
            phase: Some(phase.into()),
            ..PodStatus::default()
        });
    }
}

fn requests(shares: &[Vec<ShareOrder>]) -> Vec<u64> {
    let rate = |order: &ShareOrder| order.requests.map_or(0, |rate| rate.milli_per_minute / MILLI);
    shares.iter().map(|orders| orders.iter().map(rate).sum()).collect()
}

#[test]
fn both_limits_are_shared_out_and_then_nothing_changes() {
    let mut world = World::new();
    let shares = world.share();
    assert_eq!(requests(&shares), [299, 299]);
    let order = &shares[0][0];
    let tokens = order.tokens.unwrap().milli_per_minute / MILLI;
    assert_eq!(
        (order.backend.as_str(), order.sequence, order.contended, tokens),
        ("openai", 1, false, 29_925)
    );
    world.tell(shares.clone());
    assert_eq!(world.share(), shares, "though nobody has followed yet");
    world.say(0, 0);
    assert_eq!(world.share(), shares);
}

#[test]
fn a_demand_moves_shares_in_two_steps() {
    let mut world = World::new();
    world.tell(world.share());
    world.say(0, 900);
    world.say(1, 0);
    let first = world.share();
    assert_eq!(requests(&first), [299, 0], "less at once, more when that is followed");
    assert!(
        first
            .iter()
            .flatten()
            .all(|order| order.contended && order.sequence == 2)
    );
    world.tell(first);
    world.say(0, 900);
    assert_eq!(
        requests(&world.share()),
        [299, 0],
        "the other has not said that it follows"
    );
    world.say(1, 0);
    assert_eq!(requests(&world.share()), [598, 0]);
}

#[test]
fn a_share_is_free_when_the_pod_is_proven_gone_and_not_before() {
    let mut world = World::new();
    world.tell(world.share());
    world.say(0, 900);
    world.say(1, 900);
    assert_eq!(requests(&world.share()), [299, 299]);
    world.end_pod(1, "Unknown");
    assert_eq!(requests(&world.share()), [299, 299], "its node may only be cut off");
    world.end_pod(1, "Failed");
    assert_eq!(requests(&world.share()), [598]);
    world.live.pods.truncate(1);
    assert_eq!(requests(&world.share()), [598]);
}

#[test]
fn a_write_without_an_answer_is_reckoned_with_and_written_over() {
    let mut world = World::new();
    world.tell(world.share());
    world.say(0, 900);
    world.say(1, 0);
    world.tell(world.share());
    world.say(0, 900);
    world.say(1, 0);
    let raised = world.share();
    assert_eq!(requests(&raised), [598, 0]);
    world.tried = raised[0].clone();
    world.say(0, 0);
    world.say(1, 900);
    let next = world.share();
    assert!(requests(&next)[1] < 2, "the first may have it all: {next:?}");
    assert!(next[0][0].sequence > raised[0][0].sequence);
    let reserved = next[0][0].requests.unwrap().reserved_milli_per_minute;
    assert_eq!(reserved, raised[0][0].requests.unwrap().milli_per_minute);
}

#[test]
fn a_sequence_is_never_below_what_the_replica_says() {
    let mut world = World::new();
    world.live.replicas[0].status.as_mut().unwrap().shares = vec![ShareReport {
        backend: "openai".into(),
        sequence: 57,
        ..ShareReport::default()
    }];
    assert_eq!(world.share()[0][0].sequence, 58);
}

#[test]
fn what_is_not_limited_has_no_share() {
    let mut world = World::new();
    world.tell(world.share());
    let remote = world.deployment.spec.backends[0].remote.as_mut().unwrap();
    remote.rate_limit.as_mut().unwrap().tokens_per_minute = None;
    let order = &world.share()[0][0];
    assert_eq!((order.tokens, order.sequence), (None, 2));
    world.deployment.spec.backends[0].remote.as_mut().unwrap().rate_limit = None;
    assert_eq!(world.share(), vec![vec![], vec![]]);
}
