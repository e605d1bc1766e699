//! Pods that gave up on a GPU: replaced, and after three on one device within 30 minutes held, so that nobody else is given the device
//! (design section 10).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{GpuSuspect, GpuTrouble, ReplacedPod};

/// Pods that are replaced for one device within [`WINDOW`]; the next one is held.
pub const REPLACEMENTS: usize = 3;
/// How long a replacement is remembered.
pub const WINDOW: SignedDuration = SignedDuration::from_mins(30);
/// The device where no driver told its UUID.
pub const UNKNOWN: &str = "unknown";
/// Devices that are remembered.
const DEVICES: usize = 16;
/// Pods that are held for one device.
const HELD: usize = 8;

/// A pod whose runtime gave up because of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// UID of the pod.
    pub pod_uid: String,
    /// Its node.
    pub node: String,
    /// What its runtime said.
    pub message: String,
    /// The devices that it may be the fault of.
    pub suspects: Vec<GpuSuspect>,
}

/// Takes note of `failures` at `now`. `exists` says whether a pod of that UID is there and stays: one that is held until then.
///
/// A pod is taken note of once. One that cannot be, because too many devices fail, is neither replaced nor held: the kubelet starts it
/// again with a growing pause.
pub fn note(rows: &mut Vec<GpuTrouble>, failures: &[Failure], exists: impl Fn(&str) -> bool, now: Timestamp) {
    for row in rows.iter_mut() {
        row.held.retain(|uid| exists(uid));
        if row.held.is_empty() {
            row.replaced.retain(|pod| is_recent(pod, now));
        }
    }
    rows.retain(|row| !row.held.is_empty() || !row.replaced.is_empty());
    for failure in failures {
        if !is_noted(rows, &failure.pod_uid) {
            add(rows, failure, now);
        }
    }
}

/// When the next replacement is forgotten.
#[must_use]
pub fn next_change(rows: &[GpuTrouble], now: Timestamp) -> Option<Duration> {
    let free = rows.iter().filter(|row| row.held.is_empty());
    let ends = free
        .flat_map(|row| &row.replaced)
        .filter_map(|pod| pod.at.0.checked_add(WINDOW).ok());
    ends.min()
        .map(|at| at.duration_since(now).try_into().unwrap_or_default())
}

/// A pod that is to be deleted.
#[must_use]
pub fn is_replaced(rows: &[GpuTrouble], pod_uid: &str) -> bool {
    let mut replaced = rows.iter().flat_map(|row| &row.replaced);
    replaced.any(|pod| pod.pod_uid == pod_uid)
}

/// The device for which a pod is held.
#[must_use]
pub fn held_for<'a>(rows: &'a [GpuTrouble], pod_uid: &str) -> Option<&'a GpuTrouble> {
    rows.iter().find(|row| row.held.iter().any(|uid| uid == pod_uid))
}

fn is_noted(rows: &[GpuTrouble], pod_uid: &str) -> bool {
    is_replaced(rows, pod_uid) || held_for(rows, pod_uid).is_some()
}

fn is_recent(pod: &ReplacedPod, now: Timestamp) -> bool {
    now.duration_since(pod.at.0) < WINDOW
}

fn add(rows: &mut Vec<GpuTrouble>, failure: &Failure, now: Timestamp) {
    let unknown = [GpuSuspect {
        uuid: UNKNOWN.to_owned(),
        xid: None,
    }];
    let suspects = if failure.suspects.is_empty() {
        &unknown[..]
    } else {
        &failure.suspects
    };
    let of = |row: &GpuTrouble, suspect: &GpuSuspect| row.device == suspect.uuid && row.node == failure.node;
    let missing: Vec<_> = suspects
        .iter()
        .filter(|suspect| !rows.iter().any(|row| of(row, suspect)))
        .collect();
    if rows.len() + missing.len() > DEVICES {
        return;
    }
    rows.extend(missing.into_iter().map(|suspect| new_row(suspect, failure)));
    let mut ours: Vec<_> = rows
        .iter_mut()
        .filter_map(|row| {
            suspects
                .iter()
                .find(|suspect| of(row, suspect))
                .map(|suspect| (row, suspect))
        })
        .collect();
    // A pod with several devices is held when one of them is worn out.
    let recent = |row: &GpuTrouble| row.replaced.iter().filter(|pod| is_recent(pod, now)).count();
    let worn = |row: &GpuTrouble| !row.held.is_empty() || recent(row) >= REPLACEMENTS;
    let held = ours.iter().any(|(row, _)| worn(row));
    for (row, suspect) in ours.iter_mut().filter(|(row, _)| !held || worn(row)) {
        row.xid = suspect.xid.or(row.xid);
        row.message.clone_from(&failure.message);
        if held {
            hold(row, failure);
        } else {
            row.replaced.push(ReplacedPod {
                pod_uid: failure.pod_uid.clone(),
                at: Time(now),
            });
        }
    }
}

fn hold(row: &mut GpuTrouble, failure: &Failure) {
    if row.held.len() < HELD {
        row.held.push(failure.pod_uid.clone());
    }
}

fn new_row(suspect: &GpuSuspect, failure: &Failure) -> GpuTrouble {
    GpuTrouble {
        device: suspect.uuid.clone(),
        node: failure.node.clone(),
        xid: None,
        message: String::new(),
        replaced: Vec::new(),
        held: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn failure(pod: &str, devices: &[&str]) -> Failure {
        Failure {
            pod_uid: pod.to_owned(),
            node: "n".to_owned(),
            message: format!("{pod} failed"),
            suspects: devices
                .iter()
                .map(|uuid| GpuSuspect {
                    uuid: (*uuid).to_owned(),
                    xid: Some(79),
                })
                .collect(),
        }
    }

    fn noted(rows: &mut Vec<GpuTrouble>, pod: &str, devices: &[&str], minutes: i64) {
        note(rows, &[failure(pod, devices)], |_| true, at(minutes));
    }

    #[test]
    fn three_are_replaced_and_the_fourth_is_held_until_it_is_deleted() {
        let mut rows = Vec::new();
        for (pod, minutes) in [("a", 0), ("b", 10), ("c", 20)] {
            noted(&mut rows, pod, &["GPU-1"], minutes);
            noted(&mut rows, pod, &["GPU-1"], minutes + 1);
            assert!(is_replaced(&rows, pod));
        }
        assert_eq!(rows[0].replaced.len(), 3, "a pod counts once");
        noted(&mut rows, "d", &["GPU-1"], 29);
        assert!(!is_replaced(&rows, "d"));
        assert_eq!(
            held_for(&rows, "d").map(|row| (row.device.as_str(), row.xid)),
            Some(("GPU-1", Some(79)))
        );
        assert_eq!(next_change(&rows, at(29)), None, "time does not free it");
        note(&mut rows, &[], |_| true, at(1000));
        assert!(held_for(&rows, "d").is_some());
        note(&mut rows, &[], |_| false, at(1001));
        assert!(rows.is_empty());
    }

    #[test]
    fn half_an_hour_later_it_is_forgotten() {
        let mut rows = Vec::new();
        for (pod, minutes) in [("a", 0), ("b", 1), ("c", 2)] {
            noted(&mut rows, pod, &["GPU-1"], minutes);
        }
        assert_eq!(next_change(&rows, at(2)), Some(Duration::from_secs(28 * 60)));
        noted(&mut rows, "d", &["GPU-1"], 30);
        assert!(is_replaced(&rows, "d") && !is_replaced(&rows, "a"));
    }

    #[test]
    fn another_device_and_another_node_have_a_count_of_their_own() {
        let mut rows = Vec::new();
        for (pod, device) in [("a", "GPU-1"), ("b", "GPU-1"), ("c", "GPU-1"), ("d", "GPU-2")] {
            noted(&mut rows, pod, &[device], 0);
        }
        assert!(is_replaced(&rows, "d"));
        let mut elsewhere = failure("e", &[]);
        elsewhere.node = "m".to_owned();
        note(&mut rows, &[elsewhere], |_| true, at(0));
        assert_eq!((rows[2].device.as_str(), rows[2].node.as_str()), (UNKNOWN, "m"));
        noted(&mut rows, "f", &["GPU-2", "GPU-1"], 0);
        assert!(held_for(&rows, "f").is_some(), "one of its devices is worn out");
        assert_eq!(rows[1].replaced.len(), 1, "the other one is not accused");
    }

    proptest! {
        /// Whatever fails in whatever order: the bounds of the schema hold, no pod is both replaced and held, and no device has more than
        /// three replacements within 30 minutes.
        #[test]
        fn bounded_and_never_both(steps in proptest::collection::vec((0u8..40, 0u8..20, 0i64..12, any::<bool>()), 0..200)) {
            let (mut rows, mut now) = (Vec::new(), 0);
            let mut history: Vec<(String, i64, String)> = Vec::new();
            for (pod, device, gap, both) in steps {
                now += gap;
                let (pod, first, second) = (format!("p{pod}"), format!("GPU-{device}"), format!("GPU-{}", device / 2));
                let devices = if both && first != second { vec![first.as_str(), second.as_str()] } else { vec![first.as_str()] };
                note(&mut rows, &[failure(&pod, &devices)], |uid| uid.len() < 3, at(now));
                prop_assert!(rows.len() <= DEVICES);
                for row in &rows {
                    prop_assert!(row.replaced.len() <= REPLACEMENTS && row.held.len() <= HELD);
                    for replaced in &row.replaced {
                        prop_assert!(held_for(&rows, &replaced.pod_uid).is_none());
                        let entry = (row.device.clone(), replaced.at.0.as_second() / 60, replaced.pod_uid.clone());
                        if !history.contains(&entry) { history.push(entry); }
                    }
                    let recent = history.iter().filter(|(device, minute, _)| *device == row.device && now - minute < 30);
                    prop_assert!(recent.count() <= REPLACEMENTS);
                }
            }
        }
    }
}
