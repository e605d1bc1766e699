//! A pod that follows the leader of its group: its part of the engine, and the end of both.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use super::process::{DEADLINE, get, until};

/// In the place of vLLM: it writes down what it is told, and loses its leader when somebody takes that away.
const ENGINE: &str = "#!/bin/sh\necho \"$@\" >\"$HOME/told.new\"; mv \"$HOME/told.new\" \"$HOME/told\"\n\
    while [ -e \"$HOME/told\" ]; do sleep 0.05; done\necho 'RuntimeError: the leader is gone' >&2\nexit 1\n";

struct Follower {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    folder: tempfile::TempDir,
}

impl Follower {
    /// The second pod of a group whose leader is at this address.
    fn start(leader: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = folder.path().join("vllm");
        fs::write(&engine, ENGINE).unwrap();
        fs::set_permissions(&engine, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("m")).unwrap();
        let backend = json!({"name": "own", "local": {
            "engine": "VLLM", "nodes": 2, "gpus": {"count": 1}, "source": {"persistentVolumeClaim": {"claimName": "c", "path": "m"}},
        }});
        let mut child = Command::new(env!("CARGO_BIN_EXE_inference-runtime"))
            .args(["follow", "--admin", "127.0.0.1:0"])
            .env("INFERENCE_LOCAL_BACKEND", backend.to_string())
            .env("INFERENCE_ENGINE_PATH", &engine)
            .env("INFERENCE_MODEL_DIR", folder.path())
            .env("HOME", folder.path())
            .env("LWS_LEADER_ADDRESS", leader)
            .env("LWS_WORKER_INDEX", "1")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log, folder }
    }

    /// The next line of the log whose message begins so.
    async fn says(&mut self, message: &str) -> Value {
        let reading = async {
            loop {
                let line = self.log.next_line().await.unwrap().expect("the process goes on");
                // Its children print plainly.
                let Ok(line) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                if line["fields"]["message"]
                    .as_str()
                    .unwrap_or_default()
                    .starts_with(message)
                {
                    return line["fields"].clone();
                }
            }
        };
        timeout(DEADLINE, reading).await.expect(message)
    }

    async fn told(&self) -> String {
        let file = self.folder.path().join("told");
        until("the engine's arguments", || async { file.exists() }).await;
        fs::read_to_string(file).unwrap()
    }

    async fn code(&mut self) -> Option<i32> {
        timeout(DEADLINE, self.child.wait())
            .await
            .expect("it ends")
            .unwrap()
            .code()
    }
}

#[tokio::test]
async fn it_runs_its_part_without_an_api_and_ends_with_it() {
    let mut follower = Follower::start("127.0.0.8");
    let admin: SocketAddr = follower.says("listening").await["address"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(get(admin, "/readyz").await.status.as_u16(), 200);
    let told = follower.told().await;
    assert!(
        told.contains("--nnodes=2 --node-rank=1 --master-addr=127.0.0.8") && told.contains("--headless"),
        "{told}"
    );
    fs::remove_file(follower.folder.path().join("told")).unwrap();
    // Not rebuilt: the set that made the group makes it anew.
    assert_eq!(follower.code().await, Some(81));
}

#[tokio::test]
async fn asked_to_end_it_goes_on_until_the_leader_is_gone() {
    let leader = TcpListener::bind("127.0.0.9:9000").await.unwrap();
    let mut follower = Follower::start("127.0.0.9");
    follower.told().await;
    kill(
        Pid::from_raw(i32::try_from(follower.child.id().unwrap()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    follower.says("asked to end").await;
    for _ in 0..2 {
        timeout(DEADLINE, leader.accept())
            .await
            .expect("it looks for its leader")
            .unwrap();
    }
    assert_eq!(follower.child.try_wait().unwrap(), None, "requests in flight need it");
    drop(leader);
    assert_eq!(follower.code().await, Some(0));
}
