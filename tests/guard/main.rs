//! The guard of the fast path: how many instructions and writing system calls one delivery, join or quote costs the server.
//!
//! Times differ from machine to machine and from minute to minute; instructions do not. The release binary runs as it ships, under callgrind,
//! each scenario twice: a little of the work and then more of it. The difference of the two, divided by the difference of the work, is what
//! one piece costs, and whatever a start, a set-up or an end costs has gone out of it. The clients of this program run natively and are not
//! counted. Everything goes over the wire, one step after the other: nothing depends on who was faster.
//!
//! Prints TAP, one line for each cost, and fails if one is above its budget (`tests/budget/instructions.toml`).
#![expect(clippy::print_stdout, reason = "a report is what it is for")]

mod budget;
mod callgrind;
mod publisher;
mod scenarios;
mod server;
mod socket;

use std::{
    env,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, bail};

use self::{
    budget::{Budgets, Verdict},
    callgrind::Count,
    scenarios::Scenario,
};

const USAGE: &str = "usage: tickwire-guard [--write] [--repeat N] [--only NAME] TICKWIRE BUDGET
  --write     write what is measured as the new budget
  --repeat N  measure N times and show the spread; compares nothing
  --only NAME only scenarios whose name contains NAME";

struct Arguments {
    binary: PathBuf,
    budget: PathBuf,
    write: bool,
    repeat: usize,
    only: String,
}

impl Arguments {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut write, mut repeat, mut only, mut paths) = (false, 1, String::new(), Vec::new());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--write" => write = true,
                "--repeat" => repeat = arguments.next().context(USAGE)?.parse().context(USAGE)?,
                "--only" => only = arguments.next().context(USAGE)?,
                flag if flag.starts_with('-') => bail!("{flag} is unknown\n{USAGE}"),
                path => paths.push(PathBuf::from(path)),
            }
        }
        let Ok([binary, budget]) = <[PathBuf; 2]>::try_from(paths) else { bail!(USAGE) };
        if !binary.is_file() {
            bail!("{} is not there: cargo build --release --bin tickwire", binary.display());
        }
        Ok(Self { binary, budget, write, repeat: repeat.max(1), only })
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            println!("not ok 1 - the guard cannot measure");
            format!("{error:#}").lines().for_each(|line| println!("# {line}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let arguments = Arguments::read(env::args().skip(1))?;
    let scenarios: Vec<_> = scenarios::ALL.iter().filter(|one| one.name.contains(&arguments.only)).collect();
    if scenarios.is_empty() {
        bail!("no scenario's name contains {:?}", arguments.only);
    }
    let mut rounds = Vec::with_capacity(arguments.repeat);
    for _ in 0..arguments.repeat {
        rounds.push(measure_all(&arguments, &scenarios)?);
    }
    if arguments.repeat > 1 {
        print_spread(&scenarios, &rounds);
        return Ok(ExitCode::SUCCESS);
    }
    let mut budgets = Budgets::load(&arguments.budget)?;
    let measured: Vec<_> = scenarios.iter().zip(&rounds[0]).map(|(scenario, cost)| (scenario.name, *cost)).collect();
    if arguments.write {
        for (name, cost) in &measured {
            println!("{name}: {}", budgets.set(name, *cost));
        }
        budgets.save(&arguments.budget, scenarios::ALL)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("1..{}", measured.len());
    let mut code = ExitCode::SUCCESS;
    for (index, (scenario, (name, cost))) in scenarios.iter().zip(&measured).enumerate() {
        let (verdict, line) = budgets.compare(name, *cost);
        let result = if verdict == Verdict::Above { "not ok" } else { "ok" };
        println!("{result} {} - {line}", index + 1);
        if verdict == Verdict::Above {
            println!("# {name} is {}. Find out why, or, if it is worth it: make guard REWRITE=1", scenario.what);
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Measures each scenario, as many at a time as there are cores: they share nothing, and none of them is timed.
fn measure_all(arguments: &Arguments, scenarios: &[&Scenario]) -> Result<Vec<Count>> {
    let next = AtomicUsize::new(0);
    let costs = Mutex::new(vec![None; scenarios.len()]);
    let take = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(scenario) = scenarios.get(index) else { return Ok(()) };
            let cost = scenario.cost(&arguments.binary).with_context(|| scenario.name)?;
            costs.lock().expect("nobody panics with it")[index] = Some(cost);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let costs = costs.into_inner().expect("nobody panics with it");
    Ok(costs.into_iter().map(|cost| cost.expect("each was measured")).collect())
}

fn print_spread(scenarios: &[&Scenario], rounds: &[Vec<Count>]) {
    for (index, scenario) in scenarios.iter().enumerate() {
        let counts = || rounds.iter().map(|round| round[index].instructions);
        let (low, high) = (counts().fold(f64::INFINITY, f64::min), counts().fold(0.0, f64::max));
        let all: Vec<_> = counts().map(|count| format!("{count:.0}")).collect();
        let writes: Vec<_> = rounds.iter().map(|round| format!("{:.3}", round[index].writes)).collect();
        let spread = 100.0 * (high - low) / low;
        println!(
            "{}: {} instructions, spread {spread:.2} %; {} writes",
            scenario.name,
            all.join(" "),
            writes.join(" ")
        );
    }
}
