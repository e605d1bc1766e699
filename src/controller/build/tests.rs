use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;

use super::{fixtures::*, *};

fn build(
    subject: &Subject,
    spec: &InferenceDeploymentSpec,
    live: &Live,
    defaults: &Defaults,
) -> Result<Resources<Prepared>, BuildError> {
    super::build(subject, spec, live, &BTreeMap::new(), defaults)
}

fn defaults() -> Defaults {
    Defaults {
        runtime_image: "runtime:1".into(),
        addresses: AllowedAddresses::default(),
        hub: crate::api::names::HUGGING_FACE.into(),
        pull_secrets: BTreeSet::new(),
    }
}

fn built(deployment: &InferenceDeployment, live: &Live) -> Resources<Prepared> {
    build(&subject(), &deployment.spec, live, &defaults()).unwrap()
}

fn golden(name: &str, value: &impl serde::Serialize) {
    let file = format!("{}/src/controller/build/golden/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    // Through JSON, so that members come in one order.
    let actual = serde_saphyr::to_string(&serde_json::to_value(value).unwrap()).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &actual).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), actual, "{file}");
}

fn template(resources: &Resources<Prepared>, tier: usize) -> PodTemplateSpec {
    resources.deployments[tier].spec.template.clone()
}

#[test]
fn the_resources_are_the_golden_ones() {
    let resources = built(&both(), &Live::default());
    golden("local", &resources.deployments[0]);
    golden("remote", &resources.deployments[1]);
    // Of the two local pods; the GPU-less one is alone, and a budget of its own would hold up the drain of its node for ever.
    golden("disruptions", &resources.disruptions);
    golden("services", &resources.services);
    golden("network", &resources.network);
    golden("rbac", &(&resources.account, &resources.role, &resources.binding));
}

/// The pod of a local backend with these fields.
fn pod_of(local: serde_json::Value) -> k8s_openapi::api::core::v1::PodSpec {
    let mut deployment = both();
    deployment.spec.backends[0].local = Some(serde_json::from_value(local).unwrap());
    crate::controller::validate::validate(&deployment).unwrap();
    template(&built(&deployment, &Live::default()), 0).spec.unwrap()
}

#[test]
fn every_engine_has_the_golden_pod() {
    let source = serde_json::json!({"persistentVolumeClaim": {"claimName": "models", "path": "llama"}});
    for (name, local) in [
        (
            "engine-vllm",
            serde_json::json!({"engine": "VLLM", "source": source, "gpus": {"count": 8}, "args": ["--enforce-eager"]}),
        ),
        (
            "engine-sglang",
            serde_json::json!({"engine": "SGLang", "source": source, "gpus": {"count": 1}}),
        ),
        (
            "source-url",
            serde_json::json!({
                "engine": "LlamaCpp", "source": {"url": {"location": "https://models.example/m.gguf", "sha256": "0".repeat(64)}},
            }),
        ),
        (
            "source-hugging-face",
            serde_json::json!({
                "engine": "VLLM", "gpus": {"count": 1},
                "source": {"huggingFace": {
                    "repository": "owner/model", "revision": "main", "tokenSecret": {"name": "hugging-face", "key": "token"},
                }},
            }),
        ),
        (
            "engine-custom",
            serde_json::json!({
                "engine": "Custom", "image": "server:1", "command": ["serve", "$(HOST):$(PORT)"], "args": ["$$(PORT)"],
            }),
        ),
        (
            "engine-external",
            serde_json::json!({"engine": "External", "url": "http://engine.default.svc:8000"}),
        ),
    ] {
        golden(name, &pod_of(local));
    }
}

#[test]
fn every_way_to_get_a_gpu_has_the_golden_pod() {
    for (name, fields) in [
        (
            "gpus-mig",
            serde_json::json!({"gpus": {"count": 2, "resourceName": "nvidia.com/mig-1g.5gb", "minMemory": "4864Mi"}}),
        ),
        (
            "gpus-other",
            serde_json::json!({"image": "server:rocm", "gpus": {"count": 1, "resourceName": "amd.com/gpu"}}),
        ),
        (
            "gpus-selected",
            serde_json::json!({
                "gpus": {"count": 1, "product": "NVIDIA-H100-80GB-HBM3", "minMemory": "79.5Gi"},
                "podTemplate": {
                    "nodeSelector": {"pool": "inference"},
                    "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "inference", "effect": "NoExecute"}],
                    "runtimeClassName": "nvidia",
                    "priorityClassName": "serving",
                    "affinity": {
                        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
                            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
                        ]}},
                        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}},
                        ]},
                    },
                },
            }),
        ),
        (
            "gpus-claim",
            serde_json::json!({"gpus": {"claimTemplate": {"name": "one-h100"}}, "resources": {"requests": {"cpu": "2"}}}),
        ),
        ("gpus-class", serde_json::json!({"gpus": of_a_class()})),
    ] {
        let mut local =
            serde_json::json!({"engine": "LlamaCpp", "source": {"image": {"reference": "m:1", "path": "m.gguf"}}});
        local
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        golden(name, &pod_of(local));
    }
}

/// Two devices of a class with much memory.
fn of_a_class() -> serde_json::Value {
    let large = "device.capacity['gpu.nvidia.com'].memory.isGreaterThan(quantity('79Gi'))";
    serde_json::json!({"count": 2, "deviceClassName": "gpu.nvidia.com", "selectors": [{"cel": {"expression": large}}]})
}

#[test]
fn claims_on_devices_of_a_class_are_made_from_the_golden_template() {
    let mut deployment = both();
    let gpus = |deployment: &mut InferenceDeployment, gpus: serde_json::Value| {
        deployment.spec.backends[0].local.as_mut().unwrap().gpus = Some(serde_json::from_value(gpus).unwrap());
    };
    gpus(&mut deployment, of_a_class());
    let first = built(&deployment, &Live::default());
    golden("claim-template", first.claims.as_ref().unwrap());

    // Pods that another version rendered know another name for it.
    let mut kept = first.revisions.clone();
    kept[0].data.0["spec"]["resourceClaims"][0]["resourceClaimTemplateName"] = "assistant-gpus-v0-1".into();
    let live = Live {
        revisions: kept.into_iter().map(Into::into).collect(),
        ..Live::default()
    };
    assert_eq!(
        built(&deployment, &live).claims.unwrap().name_any(),
        "assistant-gpus-v0-1"
    );

    gpus(
        &mut deployment,
        serde_json::json!({"count": 2, "deviceClassName": "gpu.nvidia.com"}),
    );
    let other = built(&deployment, &live);
    assert_ne!(
        other.claims.as_ref().unwrap().name_any(),
        first.claims.unwrap().name_any()
    );
    assert_ne!(
        other.revisions[0].name_any(),
        first.revisions[0].name_any(),
        "and other pods"
    );
    assert!(built(&both(), &live).claims.is_none());
}

#[test]
fn what_gpus_select_holds_in_every_choice_of_the_users_and_nothing_is_said_twice() {
    let gpus = serde_json::json!({"count": 1, "product": "NVIDIA-L4"});
    let taint = serde_json::json!({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"});
    let term =
        |value: &str| serde_json::json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [value]}]});
    let pod = pod_of(serde_json::json!({
        "engine": "Custom", "image": "server:1", "command": ["serve"], "gpus": gpus,
        "podTemplate": {"tolerations": [taint], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term("a"), term("b")]},
        }}},
    }));
    assert_eq!(pod.tolerations.unwrap().len(), 1);
    let required = pod.affinity.unwrap().node_affinity.unwrap();
    let terms = required
        .required_during_scheduling_ignored_during_execution
        .unwrap()
        .node_selector_terms;
    for (term, zone) in terms.into_iter().zip(["a", "b"]) {
        let [theirs, ours] = term.match_expressions.unwrap().try_into().unwrap();
        assert_eq!(theirs.values.unwrap(), [zone]);
        assert_eq!(
            (ours.key.as_str(), ours.values.unwrap()),
            ("nvidia.com/gpu.product", vec!["NVIDIA-L4".to_owned()])
        );
    }
}

/// A model on two nodes with eight GPUs each, from a hub that wants a token.
fn spread() -> InferenceDeployment {
    let mut deployment = both();
    let local = serde_json::json!({
        "engine": "VLLM", "nodes": 2, "gpus": {"count": 8}, "price": {"perGpuHour": "2"},
        "source": {"huggingFace": {"repository": "owner/model", "tokenSecret": {"name": "hugging-face", "key": "token"}}},
    });
    deployment.spec.backends[0].local = Some(serde_json::from_value(local).unwrap());
    crate::controller::validate::validate(&deployment).unwrap();
    deployment
}

#[test]
fn a_model_on_several_nodes_has_the_golden_groups() {
    let resources = built(&spread(), &Live::default());
    golden("group", resources.group.as_ref().unwrap());
    let names: Vec<String> = resources.deployments.iter().map(ResourceExt::name_any).collect();
    assert_eq!(
        names,
        ["assistant-remote"],
        "groups take the place of the local Deployment"
    );

    let follower =
        serde_json::to_string(&resources.group.unwrap().spec.leader_worker_template.worker_template).unwrap();
    assert!(follower.contains("hugging-face/token"), "it brings the model itself");
    for secret in [
        "openai/api-key",
        "inference-peer",
        "inference-api-access",
        "inference-journal",
    ] {
        assert!(
            !follower.contains(secret),
            "{secret} is no business of a pod that follows"
        );
    }
}

#[test]
fn groups_keep_what_another_version_rendered_and_one_node_is_the_default() {
    let first = built(&spread(), &Live::default());
    let live = Live {
        revisions: first.revisions.iter().cloned().map(Into::into).collect(),
        ..Live::default()
    };
    let newer = Defaults {
        runtime_image: "runtime:2".into(),
        ..defaults()
    };
    let second = build(&subject(), &spread().spec, &live, &newer).unwrap();
    assert_eq!(second.group, first.group);
    let nodes = |nodes: Option<u32>| {
        let mut deployment = both();
        deployment.spec.backends[0].local.as_mut().unwrap().nodes = nodes;
        built(&deployment, &Live::default()).revisions[0].name_any()
    };
    assert_eq!(nodes(Some(1)), nodes(None));
    assert_ne!(nodes(Some(2)), nodes(None));
}

/// What the pod before reported last must be counted before its object goes.
#[test]
fn a_pod_with_the_name_of_an_earlier_one_waits_for_its_replica_to_go() {
    let pod = |uid: &str| {
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(serde_json::json!({"metadata": {
            "name": "assistant-nodes-0", "uid": uid, "labels": {"inference-operator.dev/tier": "local"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "assistant-nodes", "uid": "s", "controller": true}],
        }}))
        .unwrap();
        std::sync::Arc::new(pod)
    };
    let mut live = Live {
        pods: vec![pod("p-1")],
        ..Live::default()
    };
    live.replicas = built(&spread(), &live).replicas;
    assert_eq!(built(&spread(), &live).replicas.len(), 1);
    live.pods = vec![pod("p-2")];
    assert_eq!(built(&spread(), &live).replicas.len(), 0);
    live.replicas.clear();
    assert_eq!(built(&spread(), &live).replicas[0].spec.pod_uid, "p-2");
}

#[test]
fn pods_of_a_group_are_known_by_the_sets_that_made_them() {
    let tier = |owner: &str, label: &str| {
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(serde_json::json!({"metadata": {
            "name": "p", "uid": "p-1", "labels": {"inference-operator.dev/tier": label},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": owner, "uid": "s", "controller": true}],
        }}))
        .unwrap();
        let live = Live {
            pods: vec![pod.clone().into()],
            ..Live::default()
        };
        (tier_of(&subject(), &pod), built(&spread(), &live).replicas.len())
    };
    assert_eq!(tier("assistant-nodes", "local"), (Some(Tier::Local), 1));
    assert_eq!(tier("assistant-nodes-0", "follower"), (Some(Tier::Follower), 0));
    assert_eq!(tier("assistant-nodes-0", "local"), (None, 0));
    assert_eq!(tier("other", "local"), (None, 0));
}

#[test]
fn only_pods_that_download_know_the_hub_and_the_token() {
    let mirror = Defaults {
        hub: "https://mirror.example".into(),
        ..defaults()
    };
    let rendered = |deployment: &InferenceDeployment, defaults: &Defaults| {
        build(&subject(), &deployment.spec, &Live::default(), defaults).unwrap()
    };
    let mounted = both();
    assert_eq!(
        template(&rendered(&mounted, &mirror), 0),
        template(&rendered(&mounted, &defaults()), 0)
    );
    let mut downloads = both();
    let local = downloads.spec.backends[0].local.as_mut().unwrap();
    local.source = serde_json::from_value(serde_json::json!({"huggingFace": {
        "repository": "o/r", "file": "m.gguf", "tokenSecret": {"name": "hf", "key": "token"},
    }}))
    .unwrap();
    let resources = rendered(&downloads, &mirror);
    let command = template(&resources, 0).spec.unwrap().containers[0]
        .command
        .clone()
        .unwrap();
    assert_eq!(command[2], "--hugging-face-endpoint=https://mirror.example");
    let keys = |tier| {
        serde_json::to_string(&template(&resources, tier))
            .unwrap()
            .contains("hf/token")
    };
    assert!(keys(0) && !keys(1), "GPU-less pods have no use for it");
    let deadline = |tier: usize| resources.deployments[tier].spec.progress_deadline_seconds;
    assert_eq!(
        (deadline(0), deadline(1)),
        (Some(4 * 3_600 + 1_860), None),
        "a GPU-less pod loads nothing"
    );
}

#[test]
fn a_pod_that_may_load_for_longer_has_a_later_deadline() {
    let mut slow = both();
    slow.spec.backends[0].local.as_mut().unwrap().load_timeout = "2h".parse().ok();
    let deployments = built(&slow, &Live::default()).deployments;
    assert_eq!(deployments[0].spec.progress_deadline_seconds, Some(2 * 3_600 + 60));
}

#[test]
fn a_volume_of_the_users_may_hold_downloads_but_hides_no_mounted_model() {
    let shared = serde_json::json!({
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    });
    let at = |source: serde_json::Value| {
        let pod = pod_of(serde_json::json!({"engine": "LlamaCpp", "source": source, "podTemplate": shared}));
        let mounts = pod.containers[0].volume_mounts.clone().unwrap();
        let at_models = mounts.into_iter().filter(|mount| mount.mount_path == "/models");
        at_models.map(|mount| mount.name).collect::<Vec<_>>()
    };
    let url = serde_json::json!({"url": {"location": "https://models.example/m.gguf", "sha256": "0".repeat(64)}});
    assert_eq!(at(url), ["models"]);
    let image = serde_json::json!({"image": {"reference": "m:1", "path": "m.gguf"}});
    assert_eq!(at(image), ["inference-model", "models"]);
}

/// As the kubelet fills `$(NAME)` into the value of a variable.
fn expanded_by_the_kubelet(value: &str) -> String {
    value
        .replace("$$", "\u{0}")
        .replace("$(HOST)", "wrong")
        .replace('\u{0}', "$")
}

#[test]
fn the_kubelet_leaves_what_the_runtime_is_to_fill_in() {
    let pod = pod_of(serde_json::json!({
        "engine": "Custom", "image": "server:1", "command": ["serve", "$(HOST)", "$$(HOST)"],
    }));
    let env = pod.containers[0].env.clone().unwrap();
    let value = env
        .into_iter()
        .find(|v| v.name == names::ENV_LOCAL_BACKEND)
        .unwrap()
        .value
        .unwrap();
    let backend: serde_json::Value = serde_json::from_str(&expanded_by_the_kubelet(&value)).unwrap();
    assert_eq!(
        backend["local"]["command"],
        serde_json::json!(["serve", "$(HOST)", "$$(HOST)"])
    );
}

#[test]
fn a_users_own_volume_takes_the_place_of_one_that_gives_room_and_of_no_other() {
    let mounts = |path: &str| {
        let pod = pod_of(serde_json::json!({
            "engine": "Custom", "image": "server:1", "command": ["serve"],
            "podTemplate": {
                "volumes": [{"name": "own", "emptyDir": {}}],
                "volumeMounts": [{"name": "own", "mountPath": path}],
            },
        }));
        let all = pod.containers[0].volume_mounts.clone().unwrap();
        let there: Vec<String> = all
            .into_iter()
            .filter(|m| m.mount_path == path)
            .map(|m| m.name)
            .collect();
        (there, pod.volumes.unwrap().iter().any(|v| v.name == "inference-shm"))
    };
    assert_eq!(mounts("/dev/shm"), (vec!["own".to_owned()], false));
    assert_eq!(
        mounts("/var/run/inference-operator/keys"),
        (vec!["inference-keys".to_owned(), "own".to_owned()], true)
    );
}

#[test]
fn without_a_local_backend_the_gpu_less_pods_are_the_scaled_ones() {
    let resources = built(&remote(), &Live::default());
    assert_eq!(resources.deployments.len(), 1);
    assert_eq!(resources.deployments[0].name_any(), "assistant-remote");
    assert_eq!(resources.deployments[0].spec.replicas, Some(2));
    assert_eq!(resources.services.len(), 1, "no local pods, no headless Service");
}

#[test]
fn a_new_controller_version_never_rolls_pods() {
    let first = built(&both(), &Live::default());
    let live = Live {
        revisions: first.revisions.iter().cloned().map(Into::into).collect(),
        ..Live::default()
    };
    let newer = Defaults {
        runtime_image: "runtime:2".into(),
        ..defaults()
    };
    let second = build(&subject(), &both().spec, &live, &newer).unwrap();
    assert_eq!(template(&second, 0), template(&first, 0));
    let mut asked = both();
    asked.spec.runtime_image = Some("runtime:2".into());
    let third = build(&subject(), &asked.spec, &live, &newer).unwrap();
    assert_ne!(template(&third, 0), template(&first, 0));
}

#[test]
fn addresses_that_the_operator_allows_are_in_the_pods_of_both_tiers_and_replace_them() {
    let first = built(&both(), &Live::default());
    let live = Live {
        revisions: first.revisions.iter().cloned().map(Into::into).collect(),
        ..Live::default()
    };
    let command = |resources: &Resources<Prepared>, tier: usize| {
        let pod = template(resources, tier).spec.unwrap();
        pod.containers[0].command.clone().unwrap().split_off(1)
    };
    assert_eq!(command(&first, 0), ["serve"], "nothing is said by default");
    let with = |list: &str| Defaults {
        addresses: list.parse().unwrap(),
        ..defaults()
    };
    let allowing = build(&subject(), &both().spec, &live, &with("::1, 127.0.0.0/8")).unwrap();
    for tier in [0, 1] {
        assert_eq!(
            command(&allowing, tier),
            ["serve", "--allow-endpoint-addresses=127.0.0.0/8,::1/128"]
        );
        assert_ne!(allowing.revisions[tier].name_any(), first.revisions[tier].name_any());
    }
    let written_otherwise = build(&subject(), &both().spec, &live, &with("127.1.2.3/8,::1/128")).unwrap();
    assert_eq!(
        written_otherwise.revisions[0].name_any(),
        allowing.revisions[0].name_any()
    );
    let back = build(&subject(), &both().spec, &live, &defaults()).unwrap();
    assert_eq!(template(&back, 0), template(&first, 0));
}

#[test]
fn all_pods_pull_with_the_operators_secrets_and_a_change_replaces_them() {
    let mut deployment = both();
    let local = deployment.spec.backends[0].local.as_mut().unwrap();
    local.pod_template =
        serde_json::from_value(serde_json::json!({"imagePullSecrets": [{"name": "own"}, {"name": "b"}]})).ok();
    let rendered = |names: &[&str]| {
        let defaults = Defaults {
            pull_secrets: names.iter().map(|name| (*name).to_owned()).collect(),
            ..defaults()
        };
        let resources = build(&subject(), &deployment.spec, &Live::default(), &defaults).unwrap();
        let secrets = |tier: usize| -> Vec<String> {
            let secrets = template(&resources, tier).spec.unwrap().image_pull_secrets;
            secrets.into_iter().flatten().map(|secret| secret.name).collect()
        };
        let revisions: Vec<_> = resources.revisions.iter().map(ResourceExt::name_any).collect();
        (secrets(0), secrets(1), revisions)
    };
    let (local, remote, before) = rendered(&[]);
    assert_eq!((local.join(" "), remote.len()), ("own b".into(), 0));
    let (local, remote, with) = rendered(&["b", "a"]);
    assert_eq!((local.join(" "), remote.join(" ")), ("own b a".into(), "a b".into()));
    assert!(before.iter().zip(&with).all(|(before, with)| before != with));
    assert_eq!(rendered(&["a", "b"]).2, with, "the order says nothing");
}

#[test]
fn only_pod_shaped_fields_change_the_template() {
    let name = |d: &InferenceDeployment| built(d, &Live::default()).revisions[0].name_any();
    let first = name(&both());
    let mut hot = both();
    hot.spec.model = Some("other".into());
    hot.spec.replicas = Some(5);
    hot.spec.backends[1].remote.as_mut().unwrap().endpoint = "https://other.example/v1".into();
    hot.spec.backends[0].local.as_mut().unwrap().load_timeout = "2h".parse().ok();
    hot.spec.backends[0].local.as_mut().unwrap().timeouts = Some(crate::api::LocalTimeouts::default());
    assert_eq!(name(&hot), first, "hot fields take effect without a restart");
    let mut written_down = both();
    written_down.spec.backends[0].local.as_mut().unwrap().parallel = Some(4);
    assert_eq!(name(&written_down), first, "writing a default down changes nothing");
    let mut secret = both();
    let remote = secret.spec.backends[1].remote.as_mut().unwrap();
    remote.credentials.as_mut().unwrap().secret.key = "other".into();
    assert_ne!(name(&secret), first, "the set of Secret references is pod-shaped");
    let mut context = both();
    context.spec.backends[0].local.as_mut().unwrap().context_length = Some(2048);
    assert_ne!(name(&context), first);
    assert!(first.len() <= 63, "{first}");
}

#[test]
fn a_restart_asks_for_a_new_rendering() {
    let first = built(&both(), &Live::default());
    let mut workload = first.deployments[0].clone();
    let meta = workload.spec.template.metadata.as_mut().unwrap();
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert("kubectl.kubernetes.io/restartedAt".into(), "2026-01-01".into());
    let live = Live {
        revisions: first.revisions.iter().cloned().map(Into::into).collect(),
        workloads: vec![workload.into()],
        ..Live::default()
    };
    let second = built(&both(), &live);
    assert_ne!(second.revisions[0].name_any(), first.revisions[0].name_any());
    assert_eq!(second.revisions[1].name_any(), first.revisions[1].name_any());
}

#[test]
fn gpu_less_pods_have_overrides_of_their_own() {
    let mut deployment = both();
    let before = built(&deployment, &Live::default());
    deployment.spec.pod_template = serde_json::from_value(serde_json::json!({
        "labels": {"team": "a", "inference-operator.dev/tier": "mine"},
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "cpu", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "front",
        "imagePullSecrets": [{"name": "own"}],
        "resources": {"limits": {"cpu": "1", "memory": "128Mi"}},
    }))
    .unwrap();
    crate::controller::validate::validate(&deployment).unwrap();
    let after = built(&deployment, &Live::default());
    assert_eq!(template(&after, 0), template(&before, 0), "local pods have theirs");
    assert_ne!(after.revisions[1].name_any(), before.revisions[1].name_any());
    let template = template(&after, 1);
    let labels = template.metadata.unwrap().labels.unwrap();
    assert_eq!(
        (labels["team"].as_str(), labels[names::LABEL_TIER].as_str()),
        ("a", "remote")
    );
    let pod = template.spec.unwrap();
    assert_eq!(pod.node_selector.unwrap()["pool"], "cpu");
    assert_eq!(pod.tolerations.unwrap()[0].key.as_deref(), Some("cpu"));
    assert!(pod.affinity.unwrap().pod_anti_affinity.is_some());
    assert_eq!(pod.priority_class_name.as_deref(), Some("front"));
    assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "own");
    let resources = pod.containers[0].resources.clone().unwrap();
    assert_eq!(
        (resources.limits.unwrap()["memory"].0.as_str(), resources.requests),
        ("128Mi", None)
    );
}

#[test]
fn overrides_are_merged_and_the_operators_labels_win() {
    let mut deployment = both();
    let local = deployment.spec.backends[0].local.as_mut().unwrap();
    local.pod_template = Some(
        serde_json::from_value(serde_json::json!({
            "labels": {"team": "a", "inference-operator.dev/tier": "mine"},
            "env": [{"name": "HOME", "value": "/home"}],
            "nodeSelector": {"gpu": "yes"},
            "securityContext": {"runAsUser": 1000},
        }))
        .unwrap(),
    );
    let template = template(&built(&deployment, &Live::default()), 0);
    let labels = template.metadata.unwrap().labels.unwrap();
    assert_eq!(
        (labels["team"].as_str(), labels[names::LABEL_TIER].as_str()),
        ("a", "local")
    );
    let pod = template.spec.unwrap();
    let security = pod.security_context.unwrap();
    assert_eq!(
        (security.run_as_user, security.run_as_group),
        (Some(1000), Some(65_532))
    );
    let homes: Vec<_> = pod.containers[0]
        .env
        .iter()
        .flatten()
        .filter(|e| e.name == "HOME")
        .collect();
    assert_eq!(homes.len(), 1, "a name may occur once");
    assert_eq!(homes[0].value.as_deref(), Some("/home"));
    assert_eq!(pod.node_selector.unwrap()["gpu"], "yes");
}

#[test]
fn a_pod_of_ours_gets_a_replica_and_a_strangers_does_not() {
    let pod = |name: &str, owner: &str| -> k8s_openapi::api::core::v1::Pod {
        serde_json::from_value(serde_json::json!({"metadata": {
            "name": name, "uid": "p-1", "labels": {"inference-operator.dev/tier": "local"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "r", "controller": true}],
        }}))
        .unwrap()
    };
    let live = Live {
        pods: vec![
            pod("assistant-local-1-a", "assistant-local-1").into(),
            pod("other", "other-1").into(),
        ],
        ..Live::default()
    };
    let replicas = built(&both(), &live).replicas;
    assert_eq!(replicas.len(), 1);
    assert_eq!(
        (replicas[0].name_any().as_str(), replicas[0].spec.pod_uid.as_str()),
        ("assistant-local-1-a", "p-1")
    );
    assert_eq!(replicas[0].metadata.owner_references.as_ref().unwrap()[0].uid, "u-1");
}
