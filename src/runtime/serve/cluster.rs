//! A process in a pod of the controller's.

use std::sync::Arc;

use kube::Client;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    Options, ServeError,
    assemble::{self, Cluster, Parts},
    drain::Signals,
    engine, open, tend,
};
use crate::{
    api::names,
    policy::budget::journal::boot_id,
    runtime::{
        access::Verifier,
        backends::Means,
        config::{self, Identity, Keys, Snapshot},
        front::{Front, admin::Admin},
        report::{self, Ears, OwnReplica},
    },
};

/// Serves the pod's own InferenceDeployment; gives the exit code.
pub async fn serve(
    options: &Options,
    mut signals: Signals,
    shown: &Admin,
    shutdown: &CancellationToken,
) -> Result<u8, ServeError> {
    let identity = Identity::from_env()?;
    let client = Client::try_default()
        .await
        .map_err(|error| ServeError::Kube(error.to_string()))?;
    let allowed = options.allowed.clone().unwrap_or_default();
    let means = Means {
        keys: Keys::Directory(options.keys.clone().unwrap_or_else(|| names::DIR_KEYS.into())),
        allowed,
        salt: identity.deployment_uid.clone(),
    };
    let (own_engine, mut supervised) = engine::start(engine::from_template()?, None, &means, &options.hub)?;
    let mut snapshots = config::follow(&client, &identity, shutdown.clone());
    let verifier = Arc::new(Verifier::in_pod(client.clone())?);
    let snapshot = tokio::select! {
        snapshot = first(&mut snapshots) => snapshot,
        () = signals.next() => None,
        code = supervised.given_up() => return Ok(code),
    };
    let Some(snapshot) = snapshot else {
        info!("asked to end before there was a configuration");
        supervised.stop().await;
        return Ok(0);
    };
    let (gate_opener, gate) = watch::channel(false);
    let boot = rand::random_range(1..=u64::MAX);
    let own = OwnReplica {
        namespace: identity.namespace.clone(),
        pod: identity.pod.clone(),
        pod_uid: identity.pod_uid.clone(),
    };
    let front = Arc::new(assemble::front(Parts {
        snapshot,
        means,
        engine: own_engine,
        cluster: Some(Cluster {
            identity,
            gate,
            verifier,
            boot,
            journal: names::DIR_JOURNAL.into(),
        }),
    })?);
    tend::configuration(&front, snapshots, shutdown.clone());
    tend::money(&front, shutdown.clone());
    tend::demand(&front, shutdown.clone());
    let reports = Reports::begin(&front, client, own, boot, gate_opener, shutdown);
    let code = open(options, &front, signals, supervised, shown, shutdown).await;
    // Of its money the last report is the last word.
    if let Some(leases) = front.registry.leases() {
        leases.close();
    }
    reports.end(shutdown).await;
    code
}

/// What is written to the API server, and heard from there.
#[derive(Debug)]
struct Reports {
    closing: CancellationToken,
    telling: JoinHandle<()>,
    teller: JoinHandle<()>,
    reporter: JoinHandle<()>,
}

impl Reports {
    fn begin(
        front: &Arc<Front>,
        client: Client,
        own: OwnReplica,
        boot: u64,
        gate_opener: watch::Sender<bool>,
        shutdown: &CancellationToken,
    ) -> Self {
        let closing = CancellationToken::new();
        let (news, telling) = tend::news(front, boot_id(boot), closing.clone());
        let watched = front.registry.engine.as_ref().map(|engine| report::events::Watched {
            view: engine.view.clone(),
            elsewhere: engine.isolation.is_none(),
        });
        let events = report::events::run(client.clone(), own.clone(), news.clone(), watched, shutdown.clone());
        let teller = tokio::spawn(events);
        let ears: Arc<dyn Ears> = Arc::clone(&front.registry) as _;
        let gate = front.registry.remote_gate.clone();
        let (hears, stopped) = (Arc::clone(&ears), shutdown.clone());
        tokio::spawn(report::inbox::run(
            client.clone(),
            own.clone(),
            hears,
            gate_opener,
            stopped,
        ));
        let reporter = tokio::spawn(report::run(client, own, news, ears, gate, shutdown.clone()));
        Self {
            closing,
            telling,
            teller,
            reporter,
        }
    }

    /// The last report and Event are written before the process ends.
    async fn end(self, shutdown: &CancellationToken) {
        self.closing.cancel();
        let _ = self.telling.await;
        shutdown.cancel();
        let _ = tokio::join!(self.reporter, self.teller);
    }
}

/// The first good configuration; `None` when there will be none.
async fn first(snapshots: &mut watch::Receiver<Option<Arc<Snapshot>>>) -> Option<Arc<Snapshot>> {
    snapshots.wait_for(Option::is_some).await.ok()?.clone()
}
