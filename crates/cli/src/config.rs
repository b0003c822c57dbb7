//! `tickwire config`

use std::path::PathBuf;

use serde_json::json;
use tickwire_server::config::{Config, ConfigErrors, Origin, Problem, Sources, default_text};

use crate::{
    failure::{Failure, Outcome},
    output,
};

/// Check, print or start a configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tickwire config default > tickwire.toml        a commented file to start from
  tickwire config check -c tickwire.toml         every mistake with line and column
  tickwire config print -c tickwire.toml         what is in force, and where it comes from
  tickwire config print --set listen.http=0.0.0.0:4000 --json")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Validate the file, the environment and every --set, and report all problems at once
    #[command(after_help = "Examples:
  tickwire config check -c tickwire.toml
  TICKWIRE_LISTEN__HTTP=0.0.0.0:4000 tickwire config check --json")]
    Check(LayersAndFormat),
    /// Print the commented default configuration
    #[command(after_help = "Examples:
  tickwire config default > tickwire.toml")]
    Default,
    /// Print what is in force and where each value comes from; secrets are masked
    #[command(after_help = "Examples:
  tickwire config print -c tickwire.toml
  tickwire config print --json | jq '.[] | select(.source != \"default\")'")]
    Print(LayersAndFormat),
}

/// Where the configuration comes from, besides the environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Layers {
    /// The configuration file, see `tickwire config default`
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "TICKWIRE_CONFIG")]
    file: Option<PathBuf>,
    /// Set one key, over file and environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct LayersAndFormat {
    #[command(flatten)]
    layers: Layers,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Layers {
    /// Reads the configuration from all its layers.
    pub(crate) fn load(self) -> Result<Config, ConfigErrors> {
        Ok(self.load_with_sources()?.0)
    }

    /// Reads the configuration, and says where it can be read again.
    pub(crate) fn load_with_sources(self) -> Result<(Config, Sources), ConfigErrors> {
        // Names that are not Unicode are none of ours.
        let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let mut env = Vec::new();
        let mut unreadable = Vec::new();
        for (name, value) in named {
            match value.into_string() {
                Ok(value) => env.push((name, value)),
                Err(_) if name.starts_with("TICKWIRE_") => unreadable.push(Problem {
                    key: String::new(),
                    message: "the value is not UTF-8 text, as every setting is; set it again".to_owned(),
                    origin: Origin::Env(name.into()),
                }),
                Err(_) => {}
            }
        }
        let sources = Sources { file: self.file, env, sets: self.sets };
        let loaded = Config::load(sources.clone()).map(|config| (config, sources));
        if unreadable.is_empty() {
            return loaded;
        }
        // All problems are told at once.
        unreadable.extend(loaded.err().into_iter().flat_map(|errors| errors.0));
        Err(ConfigErrors(unreadable))
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let count = errors.0.len();
        let headline = if count == 1 {
            "the configuration has a problem".to_owned()
        } else {
            format!("the configuration has {count} problems")
        };
        Self::Usage(format!("{headline}\n{errors}"))
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    match args.command {
        Command::Default => output::print(default_text()),
        Command::Check(args) => check(args),
        Command::Print(args) => {
            let config = args.layers.load()?;
            if args.json { output::print_json(&config.to_json()) } else { output::print(config.to_toml()) }
        }
    }
}

fn check(args: LayersAndFormat) -> Outcome {
    let loaded = args.layers.load();
    if !args.json {
        for warning in &loaded?.warnings {
            output::say_warning(warning);
        }
        return output::print("ok\n");
    }
    match loaded {
        Ok(config) => output::print_json(&json!({"ok": true, "problems": [], "warnings": config.warnings})),
        Err(errors) => {
            let problems: Vec<_> =
                errors.0.iter().map(|problem| problem_json(&problem.key, &problem.origin, &problem.message)).collect();
            output::print_json(&json!({"ok": false, "problems": problems}))?;
            Err(Failure::Usage(format!("{} problems", errors.0.len())))
        }
    }
}

fn problem_json(key: &str, origin: &Origin, message: &str) -> serde_json::Value {
    let mut problem = json!({"key": key, "message": message});
    match origin {
        Origin::File { file, line, column } => {
            problem["file"] = json!(file.as_ref());
            problem["line"] = json!(line);
            problem["column"] = json!(column);
        }
        Origin::Env(name) => problem["variable"] = json!(name.as_ref()),
        Origin::Set => problem["source"] = json!("set"),
        Origin::Default => {}
    }
    problem
}
