//! Condition types and reasons: a closed set of constants (design sections 5 and 6). Free text belongs into messages.

/// A Ready pod and a backend that circuit and budget admit.
pub const READY: &str = "Ready";
/// The controller is still carrying out the spec. Present only while true (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// The controller cannot carry out the spec without help. Present only while true (kstatus).
pub const STALLED: &str = "Stalled";
/// All wanted pods have a node.
pub const SCHEDULED: &str = "Scheduled";
/// An engine has loaded the model and answered its first canary.
pub const MODEL_LOADED: &str = "ModelLoaded";
/// At least one backend may be sent requests.
pub const BACKENDS_AVAILABLE: &str = "BackendsAvailable";
/// No provider refuses its credentials.
pub const CREDENTIALS_ACCEPTED: &str = "CredentialsAccepted";
/// All circuits are closed.
pub const CIRCUIT_CLOSED: &str = "CircuitClosed";
/// The budget has money left.
pub const WITHIN_BUDGET: &str = "WithinBudget";
/// No GPU fault is known.
pub const GPU_HEALTHY: &str = "GPUHealthy";
/// Something works worse than it should. Always present.
pub const DEGRADED: &str = "Degraded";

/// Reasons, named as they appear in `kubectl describe`.
pub mod reason {
    /// Nothing is wrong.
    pub const AS_EXPECTED: &str = "AsExpected";
    /// Pods and backends are there.
    pub const AVAILABLE: &str = "Available";
    /// Not known yet.
    pub const PENDING: &str = "Pending";
    /// Pods are being replaced or have not acted on the newest generation.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// `replicas: 0`, no request for so long as `scaleToZero` says, or a budget that does not pay for GPUs.
    pub const SCALED_TO_ZERO: &str = "ScaledToZero";
    /// Local pods were let go and come back: requests wait for them.
    pub const WAKING: &str = "Waking";
    /// The spec breaks a rule of the schema.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The spec asks for what this version does not do.
    pub const UNSUPPORTED: &str = "Unsupported";
    /// A child's name is taken by an object that is not ours.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// The rollout made no progress within its deadline.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// The API server refused a write of the controller.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// No pod is Ready, for no more precise reason.
    pub const NO_READY_REPLICAS: &str = "NoReadyReplicas";
    /// The image cannot be pulled.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// An init container fails.
    pub const INIT_FAILED: &str = "InitFailed";
    /// A container ends again and again.
    pub const CRASH_LOOP: &str = "CrashLoop";
    /// A container was killed for its memory limit.
    pub const OOM_KILLED: &str = "OOMKilled";
    /// The API server refuses to create pods: a quota, pod security, or a class that is not there.
    pub const PODS_REFUSED: &str = "PodsRefused";
    /// No node fits.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// The kubelet evicted the pod.
    pub const EVICTED: &str = "Evicted";
    /// A volume, key or configuration of the container is missing or wrong.
    pub const CONTAINER_CONFIG_ERROR: &str = "ContainerConfigError";
    /// The kubelet's probe fails.
    pub const PROBE_FAILED: &str = "ProbeFailed";
    /// The model is being downloaded.
    pub const DOWNLOADING: &str = "Downloading";
    /// The token of the model's source is missing or refused: 401 and 403.
    pub const DOWNLOAD_UNAUTHORIZED: &str = "DownloadUnauthorized";
    /// The repository, revision, file or address of the model's source does not exist.
    pub const DOWNLOAD_NOT_FOUND: &str = "DownloadNotFound";
    /// The model does not fit onto the disk.
    pub const DOWNLOAD_NO_SPACE: &str = "DownloadNoSpace";
    /// The model's bytes are not what they should be.
    pub const DOWNLOAD_CHECKSUM_MISMATCH: &str = "DownloadChecksumMismatch";
    /// The model's source does not answer, or the disk fails.
    pub const DOWNLOAD_FAILED: &str = "DownloadFailed";
    /// Why a model could not be downloaded.
    pub const DOWNLOAD_FAILURES: [&str; 5] = [
        DOWNLOAD_UNAUTHORIZED,
        DOWNLOAD_NOT_FOUND,
        DOWNLOAD_CHECKSUM_MISMATCH,
        DOWNLOAD_NO_SPACE,
        DOWNLOAD_FAILED,
    ];
    /// The model is being loaded.
    pub const LOADING: &str = "Loading";
    /// The model is loaded.
    pub const LOADED: &str = "Loaded";
    /// The engine ended while it loaded the model.
    pub const ENGINE_START_FAILED: &str = "EngineStartFailed";
    /// The engine ended or hangs and is being started anew.
    pub const ENGINE_RESTARTING: &str = "EngineRestarting";
    /// All circuits closed.
    pub const CLOSED: &str = "Closed";
    /// A circuit is open.
    pub const OPEN: &str = "Open";
    /// A circuit is probing.
    pub const HALF_OPEN: &str = "HalfOpen";
    /// A circuit is held open or closed by `override`.
    pub const FORCED: &str = "Forced";
    /// A provider answered 401.
    pub const UNAUTHORIZED: &str = "Unauthorized";
    /// A provider answered 403.
    pub const FORBIDDEN: &str = "Forbidden";
    /// A Secret or key that a backend names is not there.
    pub const CREDENTIALS_MISSING: &str = "CredentialsMissing";
    /// A backend's endpoint is at an address that the operator does not allow.
    pub const ENDPOINT_NOT_ALLOWED: &str = "EndpointNotAllowed";
    /// Every provider takes its credentials.
    pub const ACCEPTED: &str = "Accepted";
    /// No backend may be sent requests.
    pub const NO_BACKEND_AVAILABLE: &str = "NoBackendAvailable";
    /// Budget: the ledger in the status is missing or older than what replicas have seen.
    pub const LEDGER_LOST: &str = "LedgerLost";
    /// Budget: a percentage of `warnAtPercent` is reached.
    pub const BUDGET_WARNING: &str = "BudgetWarning";
    /// Budget: the limit is reached.
    pub const EXHAUSTED: &str = "Exhausted";
    /// A provider reported more than had been reserved: its backend is stopped.
    pub const BOUND_VIOLATED: &str = "BoundViolated";
    /// Sustained 429 of a provider.
    pub const UPSTREAM_RATE_LIMITED: &str = "UpstreamRateLimited";
    /// Sustained overload of our own.
    pub const SATURATED: &str = "Saturated";
    /// A fault of our own.
    pub const INTERNAL_ERROR: &str = "InternalError";
    /// A GPU does not work in a new process either.
    pub const GPU_FAULTY: &str = "GPUFaulty";
    /// The pod asked for GPUs, and its container has no driver for them.
    pub const GPU_UNAVAILABLE: &str = "GPUUnavailable";
    /// The model does not fit into the GPU's memory.
    pub const CUDA_OUT_OF_MEMORY: &str = "CUDAOutOfMemory";
    /// A GPU's CUDA context is poisoned.
    pub const CONTEXT_POISONED: &str = "ContextPoisoned";
    /// One of several backends cannot take requests.
    pub const BACKEND_UNAVAILABLE: &str = "BackendUnavailable";
}
