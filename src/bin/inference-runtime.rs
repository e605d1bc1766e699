//! inference-runtime.

use std::process::ExitCode;

use inference_operator::runtime::local::exec;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|name| name == exec::SUBCOMMAND) {
        return exec::run(args);
    }
    ExitCode::SUCCESS
}
