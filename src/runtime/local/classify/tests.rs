use super::*;
use crate::error::ErrorKind;

/// Lines in the formats of the engines' own sources (no GPU failed for them here): llama.cpp from its own abort path (ggml-cuda.cu, `ggml_cuda_error`), vLLM and PyTorch from their tracebacks,
/// SGLang from its scheduler, NCCL from its warning format.
const RECORDED: [(&str, Option<Symptom>); 34] = [
    (
        "CUDA error: an illegal memory access was encountered",
        Some(Symptom::Poisoned),
    ),
    (
        "/app/ggml/src/ggml-cuda/ggml-cuda.cu:88: CUDA error",
        Some(Symptom::Poisoned),
    ),
    ("CUDA error: unspecified launch failure", Some(Symptom::Poisoned)),
    ("CUDA error: misaligned address", Some(Symptom::Poisoned)),
    (
        "CUDA error: uncorrectable ECC error encountered",
        Some(Symptom::Poisoned),
    ),
    ("CUDA error: device-side assert triggered", Some(Symptom::Poisoned)),
    (
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        Some(Symptom::Poisoned),
    ),
    (
        "torch.AcceleratorError: CUDA error: unspecified launch failure",
        Some(Symptom::Poisoned),
    ),
    (
        "CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error: uncorrectable NVLink error detected",
        Some(Symptom::Poisoned),
    ),
    ("CUDA error: hardware stack error", Some(Symptom::Poisoned)),
    (
        "CUDA error: an illegal instruction was encountered",
        Some(Symptom::Poisoned),
    ),
    (
        "CUDA error: operation not supported on global/shared address space",
        Some(Symptom::Poisoned),
    ),
    ("CUDA error: invalid program counter", Some(Symptom::Poisoned)),
    (
        "CUDA error: the launch timed out and was terminated",
        Some(Symptom::Poisoned),
    ),
    (
        "cudaErrorIllegalAddress: an error of the kernel",
        Some(Symptom::Poisoned),
    ),
    (
        "RuntimeError: Triton Error [CUDA]: CUDA_ERROR_LAUNCH_FAILED",
        Some(Symptom::Poisoned),
    ),
    ("torch.AcceleratorError: an unknown failure", Some(Symptom::Poisoned)),
    (
        "RuntimeError: Triton Error [CUDA]: CUDA_ERROR_ILLEGAL_ADDRESS",
        Some(Symptom::Poisoned),
    ),
    (
        "what():  cudaErrorLaunchFailure: kernel launch failed",
        Some(Symptom::Poisoned),
    ),
    (
        "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled cuda error",
        Some(Symptom::Poisoned),
    ),
    ("CUDA error: out of memory", Some(Symptom::OutOfMemory)),
    (
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory",
        Some(Symptom::OutOfMemory),
    ),
    (
        "alloc_tensor_range: failed to allocate CUDA0 buffer of size 8589934592: cudaMalloc failed",
        Some(Symptom::OutOfMemory),
    ),
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.68 GiB",
        Some(Symptom::OutOfMemory),
    ),
    (
        "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 70368744177696",
        Some(Symptom::OutOfMemory),
    ),
    (
        "ggml_cuda_pool: cudaMalloc failed: an illegal memory access was encountered",
        Some(Symptom::Poisoned),
    ),
    (
        "GGML_ASSERT(n_tokens_all <= cparams.n_batch) failed",
        Some(Symptom::Fatal),
    ),
    ("/app/libggml-base.so(ggml_abort+0x152) [0x7f0a]", Some(Symptom::Fatal)),
    (
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.",
        Some(Symptom::Fatal),
    ),
    (
        "ERROR 10-21 06:50:21 [core.py:710] EngineCore encountered a fatal error.",
        Some(Symptom::Fatal),
    ),
    (
        "Scheduler hit an exception: Traceback (most recent call last):",
        Some(Symptom::Fatal),
    ),
    (
        "0.00.182.956 I srv  llama_server: listening on http://127.0.0.1:18123",
        None,
    ),
    ("ggml_cuda_init: found 1 CUDA devices:", None),
    (
        "0.00.171.569 I srv    load_model: initializing, n_slots = 3, n_ctx_slot = 256",
        None,
    ),
];

/// In the words of `cudaGetErrorString`, or by the names of the two APIs.
const REFUSALS: [&str; 46] = [
    "CUDA error: invalid argument",
    "torch.AcceleratorError: CUDA error: invalid configuration argument",
    "RuntimeError: CUDA error: invalid device ordinal",
    "CUDA error: invalid device function",
    "CUDA error: invalid device context",
    "CUDA error: invalid resource handle",
    "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    "CUDA error: device kernel image is invalid",
    "CUDA error: no CUDA-capable device is detected",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: CUDA driver version is insufficient for CUDA runtime version",
    "CUDA error: API call is not supported in the installed CUDA driver",
    "CUDA error: system has unsupported display driver / cuda driver combination",
    "CUDA error: forward compatibility was attempted on non supported HW",
    "CUDA error: initialization error",
    "CUDA error: system not yet initialized",
    "CUDA error: PTX JIT compiler library not found",
    "CUDA error: the provided PTX was compiled with an unsupported toolchain.",
    "CUDA error: peer access is not supported between these two devices",
    "CUDA error: too many resources requested for launch",
    "CUDA error: too many blocks in cooperative launch",
    "CUDA error: operation not supported",
    "CUDA error: operation not permitted when stream is capturing",
    "CUDA error: operation failed due to a previous error during capture",
    "CUDA error: operation would result in a merge of separate capture sequences",
    "CUDA error: capturing stream has unjoined work",
    "CUDA error: dependency created on uncaptured work in another stream",
    "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "what():  cudaErrorNoKernelImageForDevice: no kernel image is available for execution on the device",
    "CUDA_ERROR_INVALID_DEVICE: invalid device ordinal",
    "cudaErrorInvalidDevice",
    "CUDA_ERROR_INVALID_VALUE",
    "cudaErrorInvalidValue",
    "CUDA_ERROR_NO_DEVICE",
    "cudaErrorNoDevice",
    "CUDA_ERROR_NOT_INITIALIZED",
    "cudaErrorInsufficientDriver",
    "CUDA_ERROR_NOT_SUPPORTED",
    "cudaErrorNotSupported",
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
    "cudaErrorStreamCaptureInvalidated",
    "RuntimeError: Triton Error [CUDA]: CUDA_ERROR_OPERATING_SYSTEM",
    "what():  cudaErrorOperatingSystem: OS call failed",
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 304: OS call failed or operation not supported on this OS",
    "ggml_cuda_init: failed to initialize CUDA: OS call failed or operation not supported on this OS",
    "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected",
];

#[test]
fn a_call_that_cuda_refuses_convicts_no_gpu() {
    for line in REFUSALS {
        assert_eq!(common(line), Some(Symptom::Refused), "{line}");
    }
}

/// As llama.cpp tells it: the last line has no cause of its own.
#[test]
fn a_refused_call_is_the_engines_failure_and_says_what_it_was() {
    let evidence = seen(&[
        "CUDA error: no kernel image is available for execution on the device",
        "  current device: 0, in function ggml_cuda_op_mul_mat at /app/ggml/src/ggml-cuda/ggml-cuda.cu:1652",
        "/app/ggml/src/ggml-cuda/ggml-cuda.cu:88: CUDA error",
    ]);
    assert_eq!(evidence.poison(), None);
    let InferenceError::ServerError { body: Some(body), .. } = evidence.failure(signal(6), false) else {
        panic!("another kind");
    };
    for words in ["no fault of the GPU", "no kernel image is available", "SIGABRT"] {
        assert!(body.contains(words), "{words} is missing in {body}");
    }
}

/// llama.cpp's server lives on where CUDA does not begin, and computes on the CPU.
#[test]
fn what_should_have_ended_an_engine_that_serves_is_known() {
    let line = "ggml_cuda_init: failed to initialize CUDA: OS call failed or operation not supported on this OS";
    let mut evidence = seen(&["load_backend: loaded CUDA backend", line]);
    let told = evidence.outlived().unwrap_or_default();
    assert!(
        told.contains("no fault of the GPU") && told.ends_with("not supported on this OS"),
        "{told}"
    );
    evidence.survived();
    assert_eq!(evidence.outlived(), None);
}

#[test]
fn recorded_lines_are_classified() {
    for (line, symptom) in RECORDED {
        assert_eq!(common(line), symptom, "{line}");
    }
}

#[test]
fn every_pattern_is_pinned_by_a_recorded_line() {
    for pattern in OUT_OF_MEMORY
        .iter()
        .chain(&STICKY)
        .chain(&ALLOCATION)
        .chain(&CUDA)
        .chain(&FATAL)
        .chain(&REFUSED)
    {
        let pinned = RECORDED
            .iter()
            .map(|(line, _)| line)
            .chain(&REFUSALS)
            .any(|line| line.to_ascii_lowercase().contains(pattern));
        assert!(pinned, "no recorded line has {pattern}");
    }
}

fn signal(number: i32) -> ExitStatus {
    ExitStatus::from_raw(number)
}

fn exit(code: i32) -> ExitStatus {
    ExitStatus::from_raw(code << 8)
}

fn seen(lines: &[&str]) -> Evidence {
    let mut evidence = Evidence::default();
    for line in lines {
        evidence.note(common(line), line);
    }
    evidence
}

#[test]
fn a_cuda_line_makes_the_end_poison() {
    let failure = seen(&["CUDA error: an illegal memory access was encountered", "bye"]).failure(signal(6), false);
    assert_eq!(
        failure,
        InferenceError::CudaContextPoisoned {
            message: "CUDA error: an illegal memory access was encountered".to_owned()
        }
    );
}

#[test]
fn out_of_memory_is_backpressure_though_llama_aborts_with_a_cuda_error() {
    let lines = [
        "CUDA error: out of memory",
        "  current device: 0, in function alloc",
        "ggml-cuda.cu:88: CUDA error",
    ];
    assert_eq!(seen(&lines).failure(signal(6), false).kind(), ErrorKind::Backpressure);
}

#[test]
fn memory_that_ran_out_and_was_survived_hides_no_poison() {
    let mut evidence = seen(&["CUDA error: out of memory"]);
    let sticky = "CUDA error: an illegal memory access was encountered";
    evidence.note(common(sticky), sticky);
    assert_eq!(evidence.poison(), Some(sticky), "it has a cause of its own");
    assert_eq!(
        evidence.failure(signal(6), false).kind(),
        ErrorKind::CudaContextPoisoned
    );

    let mut evidence = seen(&["CUDA error: out of memory"]);
    let vague = "torch.AcceleratorError: CUDA error: unknown error";
    evidence.note(common(vague), vague);
    assert_eq!(evidence.poison(), None, "it may be an echo");
    for _ in 0..ECHO {
        evidence.note(None, "serving");
    }
    evidence.note(common(vague), vague);
    assert_eq!(evidence.poison(), Some(vague));
}

#[test]
fn what_was_survived_is_no_cause() {
    let mut evidence = seen(&["CUDA error: out of memory", "ggml_assert: x"]);
    evidence.survived();
    assert_eq!(
        evidence.failure(signal(6), false).kind(),
        ErrorKind::Backpressure,
        "the sign of life may have been on its way already"
    );
    evidence.note(Some(Symptom::Error), "E no file");
    evidence.survived();
    let InferenceError::ServerError { body: Some(body), .. } = evidence.failure(signal(11), false) else {
        panic!("another kind");
    };
    assert!(body.ends_with("(SIGSEGV): E no file"), "{body}");

    let vague = "torch.AcceleratorError: CUDA error: unknown error";
    evidence.note(common(vague), vague);
    assert_eq!(evidence.poison(), Some(vague), "an echo of nothing");
    evidence.survived();
    evidence.survived();
    assert_eq!(evidence.poison(), None, "nothing survives that: it was not so");
}

#[test]
fn a_context_that_works_is_acquitted_of_what_was_said_before() {
    let sticky = "CUDA error: an illegal memory access was encountered";
    let mut evidence = seen(&[sticky]);
    let accused = evidence.accusations();
    evidence.acquit(accused);
    assert_eq!(evidence.failure(signal(11), false).kind(), ErrorKind::ServerError);
    evidence.note(common(sticky), sticky);
    evidence.acquit(accused);
    assert_eq!(evidence.poison(), Some(sticky), "it was said again since");
}

#[test]
fn the_kernels_word_on_memory_is_final() {
    assert_eq!(seen(&[]).failure(signal(9), true).kind(), ErrorKind::Backpressure);
    assert_eq!(seen(&[]).failure(signal(9), false).kind(), ErrorKind::ServerError);
}

#[test]
fn exit_0_is_a_failure_and_the_first_error_its_cause() {
    let mut evidence = Evidence::default();
    evidence.note(Some(Symptom::Error), "E invalid magic characters");
    evidence.note(Some(Symptom::Error), "E exiting due to model loading error");
    assert_eq!(
        evidence.failure(exit(0), false),
        InferenceError::ServerError {
            status: 500,
            body: Some("the engine ended unasked with exit status 0: E invalid magic characters".to_owned())
        }
    );
    assert!(evidence.ending(exit(0), false).explained);
    let mut silent = Evidence::default();
    silent.note(None, "loading model");
    assert!(!silent.ending(exit(0), false).explained);
}

#[test]
fn signals_are_named() {
    let InferenceError::ServerError { body: Some(body), .. } = seen(&[]).failure(signal(11), false) else {
        panic!("another kind");
    };
    assert_eq!(
        body,
        "the engine ended unasked with signal 11 (SIGSEGV): it logged nothing"
    );
}
