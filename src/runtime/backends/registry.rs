//! The backends of the configuration in force, swapped as a whole: a request sees one state of it from beginning to end.

use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use super::{Breaker, Demand, ErrorBook, Lasting, Leased, Means, Money, Remote, Share, Signals};
use crate::{
    api::{
        BackendKind, CircuitScope, EngineIsolation, GpuReport, InferenceReplica, ReplicaCircuit, ShareOrder, Timeouts,
    },
    runtime::{
        clock::Clock,
        config::Snapshot,
        local::{Activity, EngineView},
        report::{Ears, News},
        sync::lock,
    },
};

/// One state of the configuration with its backends, in order of preference.
#[derive(Debug)]
pub struct Routing {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// `NAMESPACE/NAME` of the deployment, for the words of errors.
    pub deployment: Arc<str>,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// A backend.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: Kind,
}

/// What a backend is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The own engine, or that of a peer.
    Local(Local),
    /// A provider's API.
    Remote(Arc<Remote>),
}

/// The local backend as the configuration describes it; the engine itself is the process's.
#[derive(Clone, Debug)]
pub struct Local {
    /// Tokens of context a request may have, when the spec says so.
    pub context_length: Option<u32>,
    /// Timers of one request.
    pub timeouts: Timeouts,
}

impl Backend {
    /// Tokens of context a request may have, when known.
    #[must_use]
    pub fn context_length(&self) -> Option<u32> {
        match &self.kind {
            Kind::Local(local) => local.context_length,
            Kind::Remote(remote) => remote.spec.context_length,
        }
    }

    /// True when a request costs money.
    #[must_use]
    pub fn is_paid(&self) -> bool {
        matches!(&self.kind, Kind::Remote(remote) if remote.prices.is_some())
    }
}

/// The supervised engine as the request path knows it.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Whether it may be sent requests.
    pub view: watch::Receiver<EngineView>,
    /// Whether it is kept apart from the keys.
    pub isolation: Option<EngineIsolation>,
    /// What the request path tells the supervisor.
    pub activity: Arc<Activity>,
    /// The GPUs; `None` where there are none.
    pub gpu: watch::Receiver<Option<GpuReport>>,
    /// Takes the controller's word that no engine may run in this pod any more.
    pub hold: Arc<watch::Sender<Option<String>>>,
}

/// More than one in so many requests that are turned away are too many.
const TURNED_AWAY: u32 = 10;

/// Everything known of backends in this process.
#[derive(Debug)]
pub struct Registry {
    routing: ArcSwap<Routing>,
    /// Our object as it was told last: a backend that comes with a later configuration follows it too.
    told: Mutex<Option<InferenceReplica>>,
    /// Its version.
    version: ArcSwapOption<String>,
    /// What sessions are made with.
    pub means: Means,
    /// The process's clock.
    pub clock: Clock,
    /// Word of changes.
    pub signals: Arc<Signals>,
    /// What went wrong of late.
    pub errors: ErrorBook,
    /// Whether requests want the local backend.
    pub demand: Arc<Demand>,
    /// Requests of clients that were answered with backpressure.
    pub turned_away: Lasting,
    /// The own engine; `None` in a GPU-less pod.
    pub engine: Option<Engine>,
    /// False until remote backends may be used (design section 9).
    pub remote_gate: watch::Receiver<bool>,
    /// The money for paid backends; `None` for a process that runs alone without a budget.
    money: Option<Money>,
    /// The shares that were told last, for backends that become known later.
    orders: Mutex<Vec<ShareOrder>>,
}

impl Registry {
    /// Backends of a first configuration.
    #[must_use]
    pub fn new(
        snapshot: Arc<Snapshot>,
        means: Means,
        engine: Option<Engine>,
        remote_gate: watch::Receiver<bool>,
        money: impl FnOnce(Clock, &Arc<Signals>) -> Option<Money>,
    ) -> Self {
        let (clock, signals) = (Clock::start(), Arc::<Signals>::default());
        let money = money(clock, &signals);
        let backends = backends(&snapshot, |name, spec| Remote::new(name, spec, &means, clock, &signals));
        tell(engine.as_ref(), &snapshot);
        Self {
            routing: ArcSwap::from_pointee(Routing::new(snapshot, backends)),
            told: Mutex::default(),
            version: ArcSwapOption::empty(),
            errors: ErrorBook::new(clock, Arc::clone(&signals)),
            demand: Arc::new(Demand::new(clock, Arc::clone(&signals))),
            turned_away: Lasting::new(TURNED_AWAY, clock),
            means,
            clock,
            signals,
            engine,
            remote_gate,
            money,
            orders: Mutex::default(),
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn routing(&self) -> Arc<Routing> {
        self.routing.load_full()
    }

    /// The money for paid backends, while the configuration has a budget.
    #[must_use]
    pub fn money(&self, routing: &Routing) -> Option<&Money> {
        self.money.as_ref().filter(|_| routing.snapshot.spec.budget.is_some())
    }

    /// The leases, in a cluster.
    #[must_use]
    pub fn leases(&self) -> Option<&Arc<Leased>> {
        self.money.as_ref()?.leases()
    }

    /// Takes a new configuration. What is known of an endpoint that stays is kept.
    pub fn configure(&self, snapshot: Arc<Snapshot>) {
        tell(self.engine.as_ref(), &snapshot);
        let before = self.routing();
        let backends = backends(&snapshot, |name, spec| match before.remote(name) {
            Some(old) => old.changed(spec, &self.means, self.clock),
            None => Remote::new(name, spec, &self.means, self.clock, &self.signals),
        });
        self.routing.store(Arc::new(Routing::new(snapshot, backends)));
        if let Some(told) = &*lock(&self.told) {
            self.routing().obey(told);
        }
        self.obey(&lock(&self.orders));
        self.signals.routine();
    }

    fn obey(&self, orders: &[ShareOrder]) {
        self.routing().each_share(|backend, share| {
            share.obey(orders.iter().find(|order| order.backend == backend));
        });
    }

    /// The process runs alone: whole rate limits are its own.
    pub fn take_whole_limits(&self) {
        self.routing().each_share(|_, share| share.take_whole());
    }

    /// Looks whether what is told of the demand for shares still holds.
    pub fn judge_demand(&self) {
        self.routing().each_share(|_, share| share.judge());
    }

    /// Reads every key again.
    pub fn refresh_keys(&self) {
        for backend in &self.routing().backends {
            if let Kind::Remote(remote) = &backend.kind {
                remote.refresh_key();
            }
        }
    }
}

impl Ears for Registry {
    fn told(&self, replica: &InferenceReplica) {
        if let Some(engine) = &self.engine {
            let told = &replica.spec.engine_hold;
            engine.hold.send_if_modified(|held| {
                let news = held != told;
                held.clone_from(told);
                news
            });
        }
        let mut told = lock(&self.told);
        *told = Some(replica.clone());
        self.routing().obey(replica);
        drop(told);
        let mut orders = lock(&self.orders);
        orders.clone_from(&replica.spec.shares);
        self.obey(&orders);
        drop(orders);
        if let (Some(leases), Some(budget)) = (self.leases(), &replica.spec.budget) {
            leases.told(budget);
        }
        // Last: whoever reads it before the circuits never writes over a state that they have not seen.
        self.version
            .store(replica.metadata.resource_version.clone().map(Arc::new));
        self.signals.routine();
    }

    fn told_version(&self) -> Option<String> {
        self.version.load().as_deref().cloned()
    }

    fn written(&self, news: &News) {
        if news.over.is_none() {
            return;
        }
        for report in &news.status.circuits {
            let breaker = self.routing().breaker(&report.backend, report.scope, &report.target);
            if let (Some(probe), Some(breaker)) = (report.probe, breaker) {
                breaker.accepted(probe.sequence);
            }
        }
    }
}

impl Routing {
    fn new(snapshot: Arc<Snapshot>, backends: Vec<Backend>) -> Self {
        Self {
            deployment: snapshot.full_name().into(),
            snapshot,
            backends,
        }
    }

    /// No backend comes after this one.
    #[must_use]
    pub fn is_last(&self, backend: &Backend) -> bool {
        self.backends.last().is_some_and(|last| last.name == backend.name)
    }

    /// Every share of a rate limit, with its backend's name.
    pub fn each_share(&self, mut act: impl FnMut(&str, &Arc<Share>)) {
        for backend in &self.backends {
            if let Kind::Remote(remote) = &backend.kind
                && let Some(share) = &remote.share
            {
                act(&backend.name, share);
            }
        }
    }

    /// Follows the merged circuits of our object.
    fn obey(&self, replica: &InferenceReplica) {
        let reports = replica.status.as_ref().map_or(&[][..], |status| &status.circuits);
        for merged in &replica.spec.circuits {
            let same = |c: &&ReplicaCircuit| {
                (&c.backend, c.scope, &c.target) == (&merged.backend, merged.scope, &merged.target)
            };
            let recorded = reports.iter().find(same).and_then(|report| report.probe);
            if let Some(breaker) = self.breaker(&merged.backend, merged.scope, &merged.target) {
                breaker.obey(merged, recorded);
            }
        }
    }

    /// The circuit of a backend, when it is that of its endpoint now.
    fn breaker(&self, name: &str, scope: CircuitScope, target: &str) -> Option<Arc<Breaker>> {
        let remote = self.remote(name).filter(|remote| remote.target == target)?;
        Some(remote.breaker(scope))
    }

    fn remote(&self, name: &str) -> Option<&Remote> {
        self.backends.iter().find_map(|b| match &b.kind {
            Kind::Remote(remote) if *b.name == *name => Some(remote.as_ref()),
            _ => None,
        })
    }
}

/// What the own engine's supervisor does by the configuration and not by its pod's template.
fn tell(engine: Option<&Engine>, snapshot: &Snapshot) {
    if let (Some(engine), Some((_, local))) = (engine, snapshot.spec.local()) {
        engine.activity.may_load(local.load_timeout());
        engine.activity.may_answer(local.timeouts().total());
    }
}

fn backends(snapshot: &Snapshot, mut remote: impl FnMut(&str, &crate::api::RemoteBackend) -> Remote) -> Vec<Backend> {
    let kinds = snapshot
        .spec
        .backends
        .iter()
        .filter_map(|b| Some((b.name.as_str(), b.kind()?)));
    kinds
        .map(|(name, kind)| Backend {
            name: name.into(),
            kind: match kind {
                BackendKind::Local(local) => Kind::Local(Local {
                    context_length: local.context_length,
                    timeouts: local.timeouts(),
                }),
                BackendKind::Remote(spec) => Kind::Remote(Arc::new(remote(name, spec))),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests;
