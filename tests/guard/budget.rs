//! What each piece of work may cost.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{callgrind::Count, scenarios::Scenario};

/// The budgets of all scenarios.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budgets {
    /// By how much, in percent, a cost may differ from its budget.
    tolerance: f64,
    #[serde(default)]
    cost: BTreeMap<String, Budget>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    instructions: f64,
    writes: f64,
    /// In place of the one for all.
    tolerance: Option<f64>,
}

/// How a cost compares with its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Within,
    /// Cheaper by more than the tolerance. Nothing is wrong, but what was won is not guarded yet.
    Below,
    /// Dearer by more than the tolerance, or a cost without a budget.
    Above,
}

/// Below so many writes per piece a difference is not a matter of percents: a wake-up more or less in a thousand pieces is chance.
const WRITES_SLACK: f64 = 0.02;

impl Budgets {
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("read {}", path.display()))
    }

    /// How a cost compares, and a line that says so.
    pub(crate) fn compare(&self, name: &str, cost: Count) -> (Verdict, String) {
        let Some(budget) = self.cost.get(name) else {
            return (Verdict::Above, format!("{name}: {}, and no budget", show(cost)));
        };
        let tolerance = budget.tolerance.unwrap_or(self.tolerance) / 100.0;
        let slack = (budget.writes * tolerance).max(WRITES_SLACK);
        let above = cost.instructions > budget.instructions * (1.0 + tolerance) || cost.writes > budget.writes + slack;
        let below = cost.instructions < budget.instructions * (1.0 - tolerance) || cost.writes < budget.writes - slack;
        let verdict = match (above, below) {
            (true, _) => Verdict::Above,
            (_, true) => Verdict::Below,
            _ => Verdict::Within,
        };
        let change = 100.0 * (cost.instructions / budget.instructions - 1.0);
        let budget = Count { instructions: budget.instructions, writes: budget.writes };
        let mut line =
            format!("{name}: {}; budget {} ± {:.0} %, {change:+.1} %", show(cost), show(budget), tolerance * 100.0);
        if verdict == Verdict::Below {
            line.push_str("; cheaper than its budget: make guard REWRITE=1 keeps that");
        }
        (verdict, line)
    }

    /// Makes a cost the budget, and says what has changed.
    pub(crate) fn set(&mut self, name: &str, cost: Count) -> String {
        let before = self.cost.get(name).copied();
        let tolerance = before.and_then(|before| before.tolerance);
        // No more digits than can be trusted: a budget is to change when the cost has.
        let (instructions, writes) = (cost.instructions.round(), (cost.writes * 1000.0).round() / 1000.0);
        self.cost.insert(name.to_owned(), Budget { instructions, writes, tolerance });
        let before = before.map_or_else(
            || "no budget before".to_owned(),
            |before| format!("before: {}", show(Count { instructions: before.instructions, writes: before.writes })),
        );
        format!("{} ({before})", show(cost))
    }

    /// Writes the file anew, in the order of the scenarios; a budget without a scenario is left out.
    pub(crate) fn save(&self, path: &Path, scenarios: &[Scenario]) -> Result<()> {
        let mut text = format!(
            "# What one piece of work may cost the server: see docs/performance.md, Budgets. Written by `make guard REWRITE=1`.\n\n\
             # By how much, in percent, a cost may differ; a [cost.*] may have one of its own.\ntolerance = {}\n",
            self.tolerance
        );
        for scenario in scenarios {
            let Some(budget) = self.cost.get(scenario.name) else { continue };
            write!(
                text,
                "\n# {}\n[cost.{}]\ninstructions = {}\nwrites = {}\n",
                scenario.what, scenario.name, budget.instructions, budget.writes
            )?;
            if let Some(tolerance) = budget.tolerance {
                writeln!(text, "tolerance = {tolerance}")?;
            }
        }
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

fn show(count: Count) -> String {
    format!("{} instructions, {:.3} writes", thousands(count.instructions), count.writes)
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digit != '-' && (digits.len() - index) % 3 == 0 && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;

    fn budgets() -> Budgets {
        toml::from_str(
            "tolerance = 5\n[cost.a]\ninstructions = 1000\nwrites = 1.0\n\
             [cost.b]\ninstructions = 1000\nwrites = 0.001\ntolerance = 20\n",
        )
        .unwrap()
    }

    #[test]
    fn what_is_dearer_than_its_budget_allows_is_above() {
        let verdict = |name, instructions, writes| budgets().compare(name, Count { instructions, writes }).0;
        assert_eq!(verdict("a", 1049.0, 1.0), Verdict::Within);
        assert_eq!(verdict("a", 1051.0, 1.0), Verdict::Above);
        assert_eq!(verdict("a", 949.0, 1.0), Verdict::Below);
        // A second system call is not made good by fewer instructions.
        assert_eq!(verdict("a", 500.0, 2.0), Verdict::Above);
        assert_eq!(verdict("a", 1000.0, 0.5), Verdict::Below);
        assert_eq!(verdict("b", 1190.0, 0.015), Verdict::Within);
        assert_eq!(verdict("b", 1210.0, 0.001), Verdict::Above);
        assert_eq!(verdict("b", 1000.0, 0.1), Verdict::Above);
        // A new scenario is not free.
        assert_eq!(verdict("unknown", 1.0, 0.0), Verdict::Above);
    }

    #[test]
    fn a_new_budget_is_read_back_and_keeps_its_tolerance() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("budget.toml");
        let mut budgets = budgets();
        let name = scenarios::ALL[0].name;
        budgets.cost = BTreeMap::from([(name.to_owned(), budgets.cost["b"]), ("gone".to_owned(), budgets.cost["a"])]);
        let cost = Count { instructions: 12345.6, writes: 0.0625 };
        assert!(budgets.set(name, cost).contains("12,346 instructions, 0.062 writes (before: 1,000"));
        budgets.save(&path, scenarios::ALL).unwrap();
        let read = Budgets::load(&path).unwrap();
        assert_eq!((read.cost.len(), read.cost[name].tolerance), (1, Some(20.0)));
        assert_eq!(read.compare(name, cost).0, Verdict::Within);
    }

    /// What is checked in must name every scenario, or the guard fails where nobody has changed anything.
    #[test]
    fn every_scenario_has_a_budget() {
        let budgets = Budgets::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("budget/instructions.toml")).unwrap();
        let scenarios: Vec<_> = scenarios::ALL.iter().map(|scenario| scenario.name).collect();
        assert!(scenarios.iter().all(|name| budgets.cost.contains_key(*name)), "{scenarios:?}");
        assert_eq!(scenarios.len(), budgets.cost.len());
    }
}
