//! One Service for clients over all pods, and a headless one through which GPU-less pods find local ones.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Subject, Tier};
use crate::api::{InferenceDeploymentSpec, names};

/// The Services of a spec.
pub fn build(subject: &Subject, spec: &InferenceDeploymentSpec) -> Vec<Service> {
    let mut services = vec![front(subject)];
    if spec.local().is_some() {
        services.push(peers(subject));
    }
    services
}

fn front(subject: &Subject) -> Service {
    service(
        subject,
        subject.name.clone(),
        ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(subject.selector()),
            ports: Some(vec![port("http", names::PORT_SERVICE)]),
            ..ServiceSpec::default()
        },
    )
}

fn peers(subject: &Subject) -> Service {
    service(
        subject,
        format!("{}{}", subject.name, names::PEER_SERVICE_SUFFIX),
        ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some("None".into()),
            selector: Some(Tier::Local.selector(&subject.name)),
            ports: Some(vec![port("peer", names::PORT_PEER)]),
            publish_not_ready_addresses: Some(false),
            ..ServiceSpec::default()
        },
    )
}

fn service(subject: &Subject, name: String, spec: ServiceSpec) -> Service {
    Service {
        metadata: subject.meta(name, subject.labels()),
        spec: Some(spec),
        status: None,
    }
}

/// The container's port has the same name.
fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number.into(),
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::String(name.into())),
        ..ServicePort::default()
    }
}
