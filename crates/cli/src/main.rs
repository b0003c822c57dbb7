//! `tickwire`: the one binary. Each command is a small module; this file chooses one and turns its outcome into an exit code.

mod bench;
mod completions;
mod config;
mod failure;
mod output;
mod publish;
mod remote;
mod replay;
mod serve;
mod sink;
mod token;
mod version;
mod watch;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::{Failure, Outcome};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes market quotes in and shows every subscribed client the newest one.
#[derive(Debug, Parser)]
#[command(name = "tickwire", version, propagate_version = true, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration, 3 cannot connect.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Replay(replay::Args),
    Publish(publish::Args),
    Watch(watch::Args),
    Bench(bench::Args),
    Config(config::Args),
    Token(token::Args),
    Completions(completions::Args),
    Version(version::Args),
}

impl Command {
    fn run(self) -> Outcome {
        match self {
            Self::Serve(args) => serve::run(args),
            Self::Replay(args) => run_async(replay::run(args)),
            Self::Publish(args) => run_async(publish::run(args)),
            Self::Watch(args) => run_async(watch::run(args)),
            Self::Bench(args) => run_async(bench::run(args)),
            Self::Config(args) => config::run(args),
            Self::Token(args) => token::run(&args),
            Self::Completions(args) => completions::run(&args),
            Self::Version(args) => version::run(&args),
        }
    }
}

fn main() -> ExitCode {
    // Errors of the command line are printed by clap, with exit code 2; help and version with 0.
    let cli = Cli::parse();
    rustls::crypto::ring::default_provider().install_default().expect("this is the first provider of the process");
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                output::say_error(message);
            }
            failure.exit_code()
        }
    }
}

/// Runs a command on one thread: what it waits for is the network.
fn run_async(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(anyhow::Error::from(error).context("start the runtime")))?;
    let outcome = runtime.block_on(Box::pin(command));
    // A blocked read of standard input must not keep the process alive.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_examples() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Examples:"), "{}", command.get_name());
        }
    }
}
