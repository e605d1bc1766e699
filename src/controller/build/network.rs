//! Who may connect to the pods. Ports of engines and of the hop between peers are the deployment's own; its token is asked for there too,
//! but in a cluster that heeds NetworkPolicies nobody else gets that far.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::Subject;
use crate::api::names;

/// Clients and scrapers come from anywhere, what the pods of a deployment have to say to each other (hops, the parts of an engine) only from
/// these. What goes out is not limited: providers, sources of models and the API server are at any address.
///
/// Policies add up: a port of a user's own container is opened by a policy of his own.
pub fn build(subject: &Subject) -> NetworkPolicy {
    let open = NetworkPolicyIngressRule {
        from: None,
        ports: Some([names::PORT_HTTP, names::PORT_ADMIN].map(port).into()),
    };
    let own = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer {
            pod_selector: Some(pods(subject)),
            ..NetworkPolicyPeer::default()
        }]),
        ports: None,
    };
    NetworkPolicy {
        metadata: subject.meta(subject.name.clone(), subject.labels()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods(subject)),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![open, own]),
            egress: None,
        }),
    }
}

fn pods(subject: &Subject) -> LabelSelector {
    LabelSelector {
        match_labels: Some(subject.selector()),
        ..LabelSelector::default()
    }
}

fn port(number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number.into())),
        protocol: Some("TCP".into()),
        end_port: None,
    }
}
