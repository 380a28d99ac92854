//! Collects the measurements, and writes them as tables.

use std::fmt::Write;

/// One line of the table of goals.
#[derive(Clone, Debug)]
pub struct Row {
    pub what: String,
    pub measured: f64,
    pub goal: Goal,
    /// The unit of `measured`, or the figure that it is a multiple of.
    pub unit: &'static str,
    /// The figures from which `measured` was computed.
    pub detail: String,
}

#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    pub fn is_met(&self) -> bool {
        match self.goal {
            Goal::AtMost(goal) => self.measured <= goal,
            Goal::AtLeast(goal) => self.measured >= goal,
        }
    }

    /// Returns the used share of the goal: at most 1 if the goal is met.
    pub fn share(&self) -> f64 {
        match self.goal {
            Goal::AtMost(0.0) => {
                if self.measured > 0.0 {
                    f64::INFINITY
                } else {
                    0.0
                }
            }
            Goal::AtMost(goal) => self.measured / goal,
            Goal::AtLeast(goal) => goal / self.measured,
        }
    }

    pub fn measured_text(&self) -> String {
        format!("{}{}", figure(self.measured), self.unit)
    }

    /// Returns the goal in the unit of `measured`.
    pub fn goal_text(&self) -> String {
        match self.goal {
            Goal::AtMost(goal) => format!("≤ {}", figure(goal)),
            Goal::AtLeast(goal) => format!("≥ {}", figure(goal)),
        }
    }
}

/// Formats a value with three digits, as more are noise.
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let decimals = match value.abs() {
        0.0 => 0,
        v if v < 0.1 => 3,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// The results of a run.
#[derive(Debug, Default)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Further tables, each in markdown.
    pub tables: Vec<String>,
}

impl Report {
    /// Returns all tables, that of the goals first.
    pub fn markdown(&self, machine: &str) -> String {
        let mut text = format!("Measured on {machine}.\n");
        let goals = (!self.rows.is_empty()).then(|| self.goals());
        for table in goals.iter().chain(&self.tables) {
            _ = write!(text, "\n{table}");
        }
        text
    }

    fn goals(&self) -> String {
        let mut text =
            String::from("| what | measured | goal | met | figures |\n|---|--:|--:|---|---|\n");
        for row in &self.rows {
            let met = if row.is_met() { "yes" } else { "no" };
            _ = writeln!(
                text,
                "| {} | {} | {} | {met} | {} |",
                row.what,
                row.measured_text(),
                row.goal_text(),
                row.detail
            );
        }
        text
    }

    pub fn add_table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let mut text =
            format!("| {} |\n|---|{}\n", head.join(" | "), "--:|".repeat(head.len() - 1));
        for row in rows {
            _ = writeln!(text, "| {} |", row.join(" | "));
        }
        self.tables.push(text);
    }
}
