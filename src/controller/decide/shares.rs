//! Rate limits, shared out over the replicas (design section 8). What was decided before is in the specs of the replicas, and what they
//! follow is in their statuses: nothing else is recorded, for each order is safe by itself.
//!
//! A replica counts until its pod is proven gone: a pod that exists may send, whatever is known of its node.

use super::Situation;
use crate::{
    api::{Backend, BackendKind, InferenceReplica, OrderedRate, RateLimit, ReportedRate, ShareOrder, ShareReport},
    controller::{dereference::Live, pods::has_ended},
    policy::rate_share::{Holding, MILLI, Order, Shared, share_out},
};

/// A replica, and what it may have been told last without our knowing.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// As it is in the cache.
    pub replica: &'a InferenceReplica,
    /// Shares that a write without an answer may have told it.
    pub tried: Vec<ShareOrder>,
}

/// The shares of every replica whose pod exists.
#[must_use]
pub fn share<'a>(
    situation: &Situation<'a>,
    tried: impl Fn(&InferenceReplica) -> Vec<ShareOrder>,
) -> Vec<(&'a InferenceReplica, Vec<ShareOrder>)> {
    let known = present(situation.live).map(|replica| Known {
        replica,
        tried: tried(replica),
    });
    let known: Vec<Known<'_>> = known.collect();
    let mut shares: Vec<_> = known.iter().map(|known| (known.replica, Vec::new())).collect();
    for (backend, limit) in situation.deployment.spec.backends.iter().filter_map(limited) {
        for ((_, shares), order) in shares.iter_mut().zip(orders(backend, limit, &known)) {
            shares.push(order);
        }
    }
    shares
}

/// Replicas whose pods exist and may still run a process.
fn present(live: &Live) -> impl Iterator<Item = &InferenceReplica> {
    let may_run = |replica: &&InferenceReplica| {
        let mut pods = live.pods.iter();
        pods.any(|pod| pod.metadata.uid.as_ref() == Some(&replica.spec.pod_uid) && !has_ended(pod))
    };
    live.replicas.iter().filter(may_run)
}

fn limited(backend: &Backend) -> Option<(&str, &RateLimit)> {
    match backend.kind()? {
        BackendKind::Remote(remote) => Some((&backend.name, remote.rate_limit.as_ref()?)),
        BackendKind::Local(_) => None,
    }
}

/// What a replica was told of one backend, or may have been, and what it says of it.
#[derive(Clone, Copy, Debug, Default)]
struct Row<'a> {
    told: Option<&'a ShareOrder>,
    tried: Option<&'a ShareOrder>,
    report: Option<&'a ShareReport>,
}

impl Row<'_> {
    fn holding(&self, rate: impl Fn(&ShareOrder) -> Option<OrderedRate>, report: Option<ReportedRate>) -> Holding {
        let order = |order: &ShareOrder| {
            let OrderedRate {
                milli_per_minute: ordered,
                reserved_milli_per_minute: reserved,
            } = rate(order).unwrap_or_default();
            Order {
                ordered,
                reserved,
                awaited: false,
            }
        };
        let reported = self.report.map_or(0, |report| report.sequence);
        let follows = self.told.is_none_or(|told| told.sequence == reported);
        let demand = report.map_or(0, |report| report.demand_milli_per_minute);
        Holding::known(
            self.told.map(order).unwrap_or_default(),
            follows,
            self.tried.map(order),
            demand,
        )
    }

    fn requests(&self) -> Holding {
        self.holding(|order| order.requests, self.report.and_then(|report| report.requests))
    }

    fn tokens(&self) -> Holding {
        self.holding(|order| order.tokens, self.report.and_then(|report| report.tokens))
    }

    /// The order as it was when nothing in it changes: what is reserved means nothing once it is confirmed. Over an attempt whose end is
    /// not known a new order is written, which ends it.
    fn next(&self, backend: &str, contended: bool, requests: Option<Order>, tokens: Option<Order>) -> ShareOrder {
        let same = |told: Option<OrderedRate>, order: Option<Order>| {
            told.map(|told| told.milli_per_minute) == order.map(|order| order.ordered)
        };
        if let (Some(told), None) = (self.told, self.tried)
            && told.contended == contended
            && same(told.requests, requests)
            && same(told.tokens, tokens)
        {
            return told.clone();
        }
        let orders = [self.told, self.tried].map(|order| order.map(|order| order.sequence));
        let sequences = [orders[0], orders[1], self.report.map(|report| report.sequence)];
        ShareOrder {
            backend: backend.to_owned(),
            sequence: sequences.into_iter().flatten().max().unwrap_or(0).saturating_add(1),
            contended,
            awaited: [requests, tokens].into_iter().flatten().any(|order| order.awaited),
            requests: requests.map(ordered),
            tokens: tokens.map(ordered),
        }
    }
}

const fn ordered(order: Order) -> OrderedRate {
    OrderedRate {
        milli_per_minute: order.ordered,
        reserved_milli_per_minute: order.reserved,
    }
}

fn orders(backend: &str, limit: &RateLimit, known: &[Known<'_>]) -> Vec<ShareOrder> {
    let rows: Vec<Row<'_>> = known.iter().map(|known| row(backend, known)).collect();
    let was_contended = rows.iter().any(|row| row.told.is_some_and(|told| told.contended));
    let shared = |limit: Option<u32>, holdings: Vec<Holding>| {
        limit.map(|limit| share_out(u64::from(limit) * MILLI, was_contended, &holdings))
    };
    let requests = shared(limit.requests_per_minute, rows.iter().map(Row::requests).collect());
    let tokens = shared(limit.tokens_per_minute, rows.iter().map(Row::tokens).collect());
    let contended = [&requests, &tokens]
        .into_iter()
        .flatten()
        .any(|shared| shared.contended);
    let order = |shared: &Option<Shared>, index: usize| shared.as_ref()?.orders.get(index).copied();
    rows.iter()
        .enumerate()
        .map(|(index, row)| row.next(backend, contended, order(&requests, index), order(&tokens, index)))
        .collect()
}

fn row<'a>(backend: &str, known: &'a Known<'_>) -> Row<'a> {
    let order = |orders: &'a [ShareOrder]| orders.iter().find(|order| order.backend == backend);
    let reports = known.replica.status.as_ref().map(|status| &status.shares);
    Row {
        told: order(&known.replica.spec.shares),
        tried: order(&known.tried),
        report: reports.and_then(|reports| reports.iter().find(|report| report.backend == backend)),
    }
}

#[cfg(test)]
mod tests;
