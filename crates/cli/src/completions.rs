//! `tickwire completions`

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{Cli, failure::Outcome, output};

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tickwire completions bash > /etc/bash_completion.d/tickwire
  tickwire completions zsh > ~/.zfunc/_tickwire
  tickwire completions fish > ~/.config/fish/completions/tickwire.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "tickwire", &mut script);
    output::print(String::from_utf8_lossy(&script))
}
