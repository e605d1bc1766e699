//! Who is measured: the runtime, nginx and the minimal proxy, each a process of its own in front of the same upstream.

use std::{
    env, fs,
    fs::File,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, settings::Settings};

/// Until a process must answer.
const START: Duration = Duration::from_secs(20);
/// Ticks a second in /proc/PID/stat: fixed by the kernel's interface on every architecture that Rust runs on.
const TICKS: f64 = 100.0;

/// A process that is measured.
#[derive(Debug)]
pub struct Subject {
    /// Its name in tables.
    pub name: &'static str,
    /// Its port.
    pub port: u16,
    child: Child,
}

/// Starts all three.
pub fn start(folder: &Path, runtime: &Path, upstream: u16, settings: &Settings) -> Result<Vec<Subject>, Failure> {
    let own = env::current_exe()?;
    let (proxy, nginx, api, admin) = (free_port()?, free_port()?, free_port()?, free_port()?);
    let (deployment, configuration) = (folder.join("deployment.yaml"), folder.join("nginx.conf"));
    fs::write(&deployment, deployment_yaml(upstream))?;
    fs::write(&configuration, nginx_conf(nginx, upstream, folder))?;
    let (deployment, configuration) = (deployment.display().to_string(), configuration.display().to_string());
    let spawn = |name, port, program: &Path, arguments: &[&str]| {
        Subject::spawn(name, port, command(settings, program, arguments), folder)
    };
    let subjects = vec![
        spawn(
            "minimal",
            proxy,
            &own,
            &["proxy", &proxy.to_string(), &upstream.to_string()],
        )?,
        spawn(
            "nginx",
            nginx,
            Path::new("nginx"),
            &["-p", &folder.display().to_string(), "-c", &configuration],
        )?,
        spawn(
            "runtime",
            api,
            runtime,
            &[
                "serve",
                "--file",
                &deployment,
                "--address",
                &format!("127.0.0.1:{api}"),
                "--admin",
                &format!("127.0.0.1:{admin}"),
            ],
        )?,
    ];
    subjects.iter().try_for_each(|subject| subject.await_port(folder))?;
    Ok(subjects)
}

fn command(settings: &Settings, program: &Path, arguments: &[&str]) -> Command {
    let mut command = match &settings.subject_cpu {
        Some(cpu) => {
            let mut command = Command::new("taskset");
            command.args(["-c", cpu]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(arguments);
    command
}

impl Subject {
    fn spawn(name: &'static str, port: u16, mut command: Command, folder: &Path) -> Result<Self, Failure> {
        let log = File::create(folder.join(format!("{name}.log")))?;
        let child = command
            .env("OPENAI_API_KEY", "sk-bench")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        Ok(Self { name, port, child })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn await_port(&self, folder: &Path) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(folder.join(format!("{}.log", self.name)))?;
                return Err(format!("{} does not answer at port {}; it says:\n{log}", self.name, self.port).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// User and system seconds so far.
    pub fn cpu(&self) -> Result<f64, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in brackets may hold anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').ok_or("no process")?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|text| text.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS)
    }

    /// A line of /proc/PID/status, in KiB: `VmRSS`, `VmHWM`.
    pub fn memory(&self, line: &str) -> Result<f64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = status
            .lines()
            .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
        let digits = value
            .and_then(|text| text.split_whitespace().next())
            .ok_or("no process")?;
        Ok(digits.parse()?)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Everything on: budget with prices, circuit breaker, retry, timers, queue.
fn deployment_yaml(upstream: u16) -> String {
    format!(
        "\
apiVersion: inference-operator.dev/v1alpha1
kind: InferenceDeployment
metadata: {{name: assistant}}
spec:
  backends:
  - name: openai
    remote:
      provider: OpenAI
      endpoint: http://127.0.0.1:{upstream}/v1
      model: gpt-4o-mini
      credentials: {{secret: {{name: openai, key: api-key}}}}
      price: {{inputPerMillionTokens: \"0.15\", cachedInputPerMillionTokens: \"0.075\", outputPerMillionTokens: \"0.60\"}}
      retry: {{maxRetries: 3, initialBackoff: 1s, maxBackoff: 60s}}
      timeouts: {{connect: 5s, firstToken: 60s, idle: 30s, total: 10m}}
      circuitBreaker: {{consecutiveFailures: 10, failureRatio: \"0.5\", minimumRequests: 20}}
  budget: {{limit: \"1000000.00\", period: Month, timeZone: UTC}}
  serving: {{maxConcurrent: 512, queue: {{capacity: 256, timeout: 30s}}, defaultMaxTokens: 1024}}
"
    )
}

/// One process; everything that is not named is nginx's default.
fn nginx_conf(port: u16, upstream: u16, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  keepalive_requests 100000000;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_buffering off;
    }}
  }}
}}
"
    )
}
