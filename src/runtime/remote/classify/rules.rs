//! The rules, in their order: status class, machine words that name a fault, text, machine words that only repeat a status, the
//! status. Words of providers were taken from recorded bodies; see `tests/data/provider-errors.tsv` and `more-provider-errors.tsv`.

use super::{body::ErrorBody, text};
use crate::error::Provider;

/// What an answer is a sign of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    RateLimited,
    /// The quota of the day, or one of nothing: this key is answered no more before the day ends.
    DayQuota,
    /// One request above what the key may ever send in a minute, or a wait that only the next day ends: elsewhere it may pass.
    OwnLimit,
    CircuitOpen,
    ContentFiltered,
    ContextLength,
    BadRequest,
    Unauthorized,
    Forbidden,
    Backpressure,
    /// Out of memory: the engine lives and takes smaller or fewer requests.
    Memory,
    /// The provider's bill is exhausted.
    Quota,
    Network,
    Server,
    /// A replica that will not recover.
    EngineDead,
    Timeout,
    Poisoned,
}

/// The sign of an answer.
pub fn sign(status: u16, body: &ErrorBody, provider: &Provider) -> Sign {
    let status = told_by_gateway(status, body);
    let found = not_about_the_key(status, body)
        .or_else(|| specific(status, body))
        .or_else(|| text::sign(status, body, provider))
        .or_else(|| coarse(status, body))
        .unwrap_or_else(|| by_status(status));
    match found {
        Sign::RateLimited => limit(body),
        other => other,
    }
}

/// Gateways answer 500 or 502 and put what the provider said into the body's own status.
fn told_by_gateway(status: u16, body: &ErrorBody) -> u16 {
    match body.number() {
        Some(number) if matches!(status, 500 | 502) => number,
        _ => status,
    }
}

/// Refusals of browsers come as 401 though the key is good: they must not open the credential's circuit.
fn not_about_the_key(status: u16, body: &ErrorBody) -> Option<Sign> {
    let browser = ["cors requests", "dangerous-direct-browser-access"];
    (matches!(status, 401 | 403) && body.says(&browser)).then_some(Sign::BadRequest)
}

const CONTEXT: &[&str] = &[
    "contextlength",
    "contextwindow",
    "contextsize",
    "prompttoolong",
    "inputtoolong",
    "prompttokensexceeded",
    "tokenslimitreached",
];
const CONTENT: &[&str] = &[
    "contentpolicy",
    "responsibleai",
    "moderation",
    "safetyviolation",
    "policyviolation",
    "prohibitedcontent",
    "datainspectionfailed",
    "sensitivecontent",
    "guardrail",
];
const CONTENT_WORDS: &[&str] = &[
    "contentfilter",
    "contentfiltered",
    "invalidprompt",
    "safety",
    "recitation",
    "blocklist",
];
const QUOTA: &[&str] = &[
    "insufficientquota",
    "insufficientbalance",
    "notenoughbalance",
    "insufficientcredit",
    "insufficientfund",
    "creditbalance",
    "billing",
    "budgetexceeded",
    "paymentrequired",
    "spendlimit",
    "spendinglimit",
    "exceededcurrentquota",
    "setlimitexceeded",
    "arrearage",
    "accountoverdue",
];
const KEY: &[&str] = &[
    "invalidapikey",
    "apikeyinvalid",
    "apikeyexpired",
    "expiredtoken",
    "expiredkey",
    "unrecognizedclient",
    "invalidsignature",
    "accesstokenexpired",
    "ipnotauthorized",
];
const BARRED: &[&str] = &[
    "unsupportedcountry",
    "organizationrestricted",
    "accessterminated",
    "accountsuspended",
    "consumersuspended",
];
const REQUEST: &[&str] = &[
    "abovemax",
    "belowmin",
    "unknownparameter",
    "unsupportedparameter",
    "unsupportedvalue",
    "missingrequiredparameter",
    "invalidtype",
    "invalidimage",
    "imagetoolarge",
    "imagetoosmall",
    "imagefiletoolarge",
    "imageparseerror",
    "invalidbase64image",
    "unsupportedimage",
    "emptyimage",
    "downloadimage",
    "invalidfunctionparameters",
    "invalidjsonschema",
];
const LIMIT: &[&str] = &[
    "ratelimit",
    "throttl",
    "toomanyrequests",
    "resourceexhausted",
    "quotaexceeded",
    "requestlimit",
];

/// Words that name the fault itself. Each holds only where the status allows it: a provider's 5xx is never the key's fault.
fn specific(status: u16, body: &ErrorBody) -> Option<Sign> {
    let caller = matches!(status, 400..=428 | 430..=499 | 500);
    let client = (400..500).contains(&status);
    if body.has(&["alldeploymentsincooldown"]) {
        Some(Sign::CircuitOpen)
    } else if caller && (body.filtered || body.has(CONTENT) || body.is(CONTENT_WORDS)) {
        Some(Sign::ContentFiltered)
    } else if caller && body.has(CONTEXT) {
        Some(Sign::ContextLength)
    } else if client && body.has(QUOTA) {
        Some(Sign::Quota)
    } else if matches!(status, 400 | 401 | 403) && body.has(KEY) {
        Some(Sign::Unauthorized)
    } else if client && body.has(BARRED) {
        Some(Sign::Forbidden)
    } else if matches!(status, 400 | 413 | 415 | 422) && body.has(REQUEST) {
        Some(Sign::BadRequest)
    } else if (status == 429 || status >= 498) && overloaded(body) {
        Some(Sign::Backpressure)
    } else {
        None
    }
}

fn overloaded(body: &ErrorBody) -> bool {
    // Mistral's "service tier capacity exceeded" is the limit of the tier.
    body.has(&["overloaded", "capacity", "resourceunavailable"]) && !body.has(&["tiercapacity"])
}

/// Words that say what a status says. They count where the status is vaguer than they are.
fn coarse(status: u16, body: &ErrorBody) -> Option<Sign> {
    match status {
        // Google's answers to where and for whom a request is, not to what it holds, but for files that are not there yet.
        400 if body.has(&["failedprecondition"]) && !body.says(&["file", "cached content", "active state"]) => {
            Some(Sign::Forbidden)
        }
        400 | 403 if body.has(&["unauthenticated", "authentication"]) => Some(Sign::Unauthorized),
        400 | 401 if body.is(&["permissiondenied", "accessdenied", "permissionerror"]) => Some(Sign::Forbidden),
        400..=428 if body.has(LIMIT) => Some(Sign::RateLimited),
        409 | 499 if body.is(&["aborted", "cancelled"]) => Some(Sign::Server),
        424 if body.has(&["timeout"]) => Some(Sign::Timeout),
        500 | 502 | 503
            if body.has(&["deadlineexceeded", "timeouterror", "requesttimeout"]) || body.is(&["timeout"]) =>
        {
            Some(Sign::Timeout)
        }
        500 if body.is(&[
            "invalidrequesterror",
            "badrequesterror",
            "invalidargument",
            "validationexception",
        ]) =>
        {
            Some(Sign::BadRequest)
        }
        500 if body.has(&["ratelimiterror", "resourceexhausted", "throttlingexception"]) => Some(Sign::RateLimited),
        503 if body.has(&["internal", "servererror"]) => Some(Sign::Server),
        _ => None,
    }
}

/// The limit of a rate: one that ends in seconds, or one that waiting does not help against.
fn limit(body: &ErrorBody) -> Sign {
    let quota = |part: &str| body.quotas.iter().any(|id| id.contains(part));
    // RetryInfo beside a day's quota is a lie: the quota comes back with the next day.
    if quota("perday") || quota("limit0") || body.says(&["perday", "limit: 0, model"]) || body.has(&["dailylimit"]) {
        return Sign::DayQuota;
    }
    let day = [
        "per day",
        "per-day",
        "/day",
        "/ day",
        "daily",
        "(rpd)",
        "(tpd)",
        "per week",
        "weekly",
        "per month",
        "/month",
        "/ month",
        "monthly",
    ];
    let own = [
        "request too large",
        "must be reduced",
        "reduce your message size",
        "long context requests",
        "service quota",
    ];
    if body.says(&day) || body.says(&own) || body.has(&["servicequota"]) {
        Sign::OwnLimit
    } else {
        Sign::RateLimited
    }
}

const fn by_status(status: u16) -> Sign {
    match status {
        401 | 407 => Sign::Unauthorized,
        402 => Sign::Quota,
        403 | 451 => Sign::Forbidden,
        408 | 504 | 522 | 524 | 598 | 599 => Sign::Timeout,
        429 => Sign::RateLimited,
        // A failed dependency is the provider's; 498 is Groq's "flex tier at capacity", 529 Anthropic's overload.
        424 => Sign::Server,
        498 | 503 | 529 => Sign::Backpressure,
        400..=499 | 501 => Sign::BadRequest,
        _ => Sign::Server,
    }
}

/// The HTTP status that an error event stands for: its own number, what its words mean as a status, or a rate its text leads with.
pub fn status_of_event(body: &ErrorBody) -> u16 {
    let by_word = || {
        STATUSES
            .iter()
            .find(|(words, _)| words.iter().any(|word| body.has(&[*word])))
            .map_or_else(|| if text::limited(body) { 429 } else { 500 }, |(_, status)| *status)
    };
    body.number().unwrap_or_else(by_word)
}

/// Words and the status they come with over HTTP: specific ones first.
const STATUSES: [(&[&str], u16); 15] = [
    (CONTEXT, 400),
    (CONTENT, 400),
    (&["contentfilter", "invalidprompt"], 400),
    (QUOTA, 429),
    (KEY, 401),
    (&["overloadederror"], 529),
    (&["overloaded", "capacity", "unavailable"], 503),
    (LIMIT, 429),
    (&["authentication", "unauthenticated", "unauthorized"], 401),
    (&["permission", "accessdenied", "forbidden", "failedprecondition"], 403),
    (&["notfound", "doesnotexist"], 404),
    (&["requesttoolarge"], 413),
    (&["deadlineexceeded", "timeout"], 504),
    (REQUEST, 400),
    (
        &[
            "invalidrequest",
            "badrequest",
            "invalidargument",
            "validation",
            "unprocessable",
            "outofrange",
            "unimplemented",
        ],
        400,
    ),
];
