//! Faults on demand.

use std::{
    env,
    io::{Write, stderr},
    net::TcpListener,
    process::{Command, abort, exit},
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use nix::sys::signal::{Signal, raise};
use tokio::time::Instant;

use crate::{flag, server::Engine};

/// Make a fault happen; false when there is none of that name.
pub(crate) fn happen(engine: &Engine, name: &str) -> bool {
    match name {
        "exit-0" => exit(0),
        "exit-1" => exit(1),
        "cuda-abort" => {
            cuda_lines("an illegal memory access was encountered");
            abort()
        }
        "cuda-and-stay" => {
            cuda_lines("unspecified launch failure");
            let _ = engine.poisoned.set(Instant::now());
        }
        "gpu-out-of-memory" => {
            cuda_lines("out of memory");
            abort()
        }
        "stall" => engine.stalled.store(true, Ordering::Relaxed),
        "engine-core" => lose_engine_core(engine),
        "engine-core-memory" => {
            eprintln!(
                "(EngineCore pid=2) ERROR 11-23 09:20:12 [core.py:1240] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.68 GiB of which 1.20 GiB is free."
            );
            lose_engine_core(engine);
        }
        "freeze" => freeze(),
        "eat-memory" => eat_memory(),
        "errors" => engine.failing.store(true, Ordering::Relaxed),
        "grandchild" => {
            leave_grandchild();
            exit(1)
        }
        "orphans" => leave_orphans(),
        "flood" => flood(),
        _ => return false,
    }
    true
}

/// As vLLM when its engine is gone: it says so, answers 500 for a moment, and ends with status 0 as if it had been asked to.
fn lose_engine_core(engine: &Engine) {
    engine.failing.store(true, Ordering::Relaxed);
    eprintln!("(APIServer pid=1) ERROR 11-23 09:20:12 [async_llm.py:744] AsyncLLM output_handler failed.");
    eprintln!(
        "(APIServer pid=1) ERROR 11-23 09:20:12 [async_llm.py:744] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause."
    );
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(300));
        exit(0);
    });
}

/// Neither answers nor ends, nor lets a connection in.
fn freeze() {
    if let Err(error) = raise(Signal::SIGSTOP) {
        eprintln!("not frozen: {error}");
    }
}

/// Until the kernel kills it.
fn eat_memory() -> ! {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1_u8; 1024 * 1024]);
    }
}

/// As ggml's `ggml_cuda_error` writes them.
fn cuda_lines(what: &str) {
    eprintln!("CUDA error: {what}");
    eprintln!(
        "  current device: 0, in function ggml_backend_cuda_synchronize at /app/ggml/src/ggml-cuda/ggml-cuda.cu:2442"
    );
    eprintln!("  cudaStreamSynchronize(cuda_ctx->stream())");
    eprintln!("/app/ggml/src/ggml-cuda/ggml-cuda.cu:88: CUDA error");
}

/// As llama.cpp's server ends when a model's buffer cannot be allocated.
pub(crate) fn does_not_fit() -> ! {
    eprintln!(
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 90000.00 MiB on device 0: cudaMalloc failed: out of memory"
    );
    eprintln!("alloc_tensor_range: failed to allocate CUDA0 buffer of size 94371840000");
    eprintln!("llama_model_load: error loading model: unable to allocate CUDA0 buffer");
    exit(1)
}

/// A process in a session of its own, as vLLM's workers may be, that takes the port as soon as it is free.
fn leave_grandchild() {
    let port = flag("--port").unwrap_or_default();
    let spawned = env::current_exe().and_then(|program| {
        Command::new("setsid")
            .arg("--fork")
            .arg(program)
            .args(["--hold-port", &port])
            .spawn()?
            .wait()
    });
    if let Err(error) = spawned {
        eprintln!("no grandchild: {error}");
    }
}

/// Processes whose parent ends before they do; each leaves a mark.
fn leave_orphans() {
    let file = env::var("FAKE_ENGINE_STARTS")
        .unwrap_or_default()
        .replace("starts", "orphans");
    let script = format!("for i in 1 2 3 4; do (sleep 0.1; echo x >>{file}) & done");
    if let Err(error) = Command::new("sh").args(["-c", &script]).status() {
        eprintln!("no orphans: {error}");
    }
}

/// The grandchild's part.
pub(crate) fn hold_port(port: &str) -> Result<(), String> {
    loop {
        if let Ok(_held) = TcpListener::bind(format!("127.0.0.1:{port}")) {
            loop {
                thread::park();
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// 64 MiB without a line break.
fn flood() {
    let chunk = vec![b'x'; 1024 * 1024];
    for _ in 0..64 {
        if stderr().write_all(&chunk).is_err() {
            return;
        }
    }
    eprintln!();
}
