//! Finds the shard of this process in the variables that its scheduler sets.
//!
//! One table names the schedulers and their variables. The first one whose index is set counts. So the order goes from
//! what a user has set to what a pod may have for other reasons.

use std::ffi::OsString;

use crate::text::echo::{plain, quoted};

/// The variable of the number of shards. It also replaces the number that a scheduler sets.
const SHARDS: &str = "TCPCORE_SHARDS";

/// A scheduler: the variables that it sets, and how they are read.
struct Scheduler {
    name: &'static str,
    /// The variable of the index. It marks the scheduler.
    index: &'static str,
    form: Form,
    /// The variables of the number of processes, of which the first that is set counts. Without any, the user sets
    /// [`SHARDS`].
    count: &'static [&'static str],
}

/// The form of an index.
#[derive(Clone, Copy)]
enum Form {
    /// A number from 0.
    From0,
    /// A number from 1.
    From1,
    /// A number from 0 at the end of a name, after a dash.
    Name,
    /// The number of a task in a Slurm array.
    Array,
    /// The number of a task that srun has started.
    Srun,
}

const OPEN_MPI: Scheduler = Scheduler {
    name: "Open MPI",
    index: "OMPI_COMM_WORLD_RANK",
    form: Form::From0,
    count: &["OMPI_COMM_WORLD_SIZE"],
};

/// The number of tasks may be that of the job, and that of the step is the one that srun has started.
const SRUN: Scheduler = Scheduler {
    name: "Slurm, srun",
    index: "SLURM_PROCID",
    form: Form::Srun,
    count: &["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"],
};

/// The schedulers, in the order in which they are looked for.
const SCHEDULERS: [Scheduler; 10] = [
    Scheduler { name: "any", index: "TCPCORE_SHARD", form: Form::From0, count: &[] },
    Scheduler { name: "Docker Swarm", index: "TCPCORE_SLOT", form: Form::From1, count: &[] },
    Scheduler {
        name: "Slurm, array",
        index: "SLURM_ARRAY_TASK_ID",
        form: Form::Array,
        count: &["SLURM_ARRAY_TASK_COUNT"],
    },
    OPEN_MPI,
    SRUN,
    Scheduler {
        name: "AWS Batch, array",
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        form: Form::From0,
        count: &["AWS_BATCH_JOB_ARRAY_SIZE"],
    },
    Scheduler {
        name: "Kubernetes, Indexed Job",
        index: "JOB_COMPLETION_INDEX",
        form: Form::From0,
        count: &[],
    },
    Scheduler { name: "Nomad", index: "NOMAD_ALLOC_INDEX", form: Form::From0, count: &[] },
    Scheduler {
        name: "Kubernetes, StatefulSet",
        index: "POD_INDEX",
        form: Form::From0,
        count: &[],
    },
    Scheduler { name: "Kubernetes, StatefulSet", index: "POD_NAME", form: Form::Name, count: &[] },
];

/// Returns the name, the variable of the index and that of the number of each scheduler, for the tests of documents.
pub fn schedulers() -> impl Iterator<Item = [&'static str; 3]> {
    SCHEDULERS.iter().map(|scheduler| {
        let count = scheduler.count.first().unwrap_or(&SHARDS);
        [scheduler.name, scheduler.index, count]
    })
}

/// The place of this process among all that share a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: u32,
    pub(super) count: u32,
    /// The variables that say so.
    pub(super) source: Vec<&'static str>,
}

/// Finds the place of this process. `lookup` returns the value of a variable. An empty one counts as not set, because
/// templates make such values.
///
/// # Errors
///
/// Fails if no variable is set, or one of those needed is missing or wrong. The text names the variable, its value and
/// what is expected.
pub(super) fn detect(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Place, String> {
    let mut variables = Variables { lookup, used: Vec::new() };
    let is_set = |scheduler: &&Scheduler| variables.get(scheduler.index).is_some();
    let Some(scheduler) = SCHEDULERS.iter().find(is_set) else {
        return Err(none_found(lookup));
    };
    let shards = variables.get(SHARDS).is_some().then(|| variables.positive(SHARDS)).transpose()?;
    let Ranked { index, count } = match scheduler.form {
        Form::Array => array_task(scheduler, &mut variables, shards.is_some())?,
        _ => task(scheduler, &mut variables, shards.is_none())?,
    };
    let (count, source) = match (shards, count) {
        (Some(shards), _) => (shards, SHARDS),
        (None, Some((count, source))) => (count, source),
        (None, None) => {
            let expected = "expected the number of shards";
            return Err(format!("{SHARDS}: not set, {expected} beside {}", scheduler.index));
        }
    };
    let fitting = u32::try_from(index).ok().filter(|index| *index < count);
    let index = fitting.ok_or_else(|| {
        out_of_range(scheduler, &variables, index, &format!("{source} is {count}"), count)
    })?;
    Ok(Place { index, count, source: variables.used })
}

/// Words the error of an index that is not below the number of shards.
fn out_of_range(
    scheduler: &Scheduler,
    variables: &Variables<'_>,
    index: u64,
    reason: &str,
    count: u32,
) -> String {
    let name = scheduler.index;
    let value = variables.get(name).map(quoted).unwrap_or_default();
    let last = count - 1;
    match scheduler.form {
        // Several variables say the index.
        Form::Array => {
            let used = variables.used.iter().filter(|name| **name != SHARDS);
            let value = |name| variables.get(name).map(plain).unwrap_or_default();
            let values: Vec<String> = used.map(|name| format!("{name}={}", value(name))).collect();
            let values = values.join(" ");
            format!("{values}: shard {index}, expected one from 0 to {last}, as {reason}")
        }
        form => {
            let expected = match form {
                Form::From1 => format!("a number from 1 to {count}"),
                Form::Name => format!("a name with -0 to -{last} at its end"),
                _ => format!("a number from 0 to {last}"),
            };
            format!("{name}: {value} is not allowed, expected {expected}, as {reason}")
        }
    }
}

/// The index of a process, and the number of processes with the variable that says it.
struct Ranked {
    index: u64,
    count: Option<(u32, &'static str)>,
}

/// Reads the index and the number that a scheduler sets. `needs_count` is false if the user sets the number.
fn task(
    scheduler: &Scheduler,
    variables: &mut Variables<'_>,
    needs_count: bool,
) -> Result<Ranked, String> {
    let index = match scheduler.form {
        Form::From0 | Form::Array => variables.whole(scheduler.index)?,
        Form::From1 => variables.positive(scheduler.index)? - 1,
        Form::Name => variables.number_at_end(scheduler.index)?,
        Form::Srun if variables.get(STEP).is_none() => {
            return Err(format!(
                "{STEP}: not set, so {} is that of the batch script, which counts no tasks; \
                 start tcpcore with srun",
                scheduler.index
            ));
        }
        Form::Srun => variables.whole(scheduler.index)?,
    };
    let names = scheduler.count;
    let name = names.iter().find(|name| variables.get(name).is_some()).or(names.first());
    let count = match name {
        Some(name) if needs_count => Some((variables.positive(name)?, *name)),
        _ => None,
    };
    Ok(Ranked { index: index.into(), count })
}

/// The difference of two tasks in a row of a Slurm array.
const STRIDE: &str = "SLURM_ARRAY_TASK_STEP";

/// The number of a step of srun. A batch script has none, but it has a `SLURM_PROCID`.
const STEP: &str = "SLURM_STEP_ID";

/// Reads the place of a task in a Slurm array. If the task starts several processes, each of them has a place.
///
/// If the user sets the number, the tasks count from 0. So a single task of an array can be started again.
fn array_task(
    scheduler: &Scheduler,
    variables: &mut Variables<'_>,
    has_shards: bool,
) -> Result<Ranked, String> {
    let Ranked { index: id, count: tasks } = task(scheduler, variables, !has_shards)?;
    let mut outer = Ranked { index: id, count: tasks };
    if let Some((tasks, source)) = tasks {
        let [first, last] = ["SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX"];
        let (first, last) = (variables.whole(first)?, variables.whole(last)?);
        let stride = match variables.get(STRIDE) {
            Some(_) => variables.positive(STRIDE)?,
            None => 1,
        };
        let is_between = (u64::from(first)..=u64::from(last)).contains(&id);
        let offset = id.wrapping_sub(first.into());
        let has_no_gap = (last.wrapping_sub(first) / stride).wrapping_add(1) == tasks;
        if !is_between || !has_no_gap || !offset.is_multiple_of(stride.into()) {
            return Err(format!(
                "{source}: {tasks} tasks from {first} to {last} by {stride} have gaps, expected an \
                 array without gaps, or {SHARDS} with the number of shards"
            ));
        }
        outer.index = offset / u64::from(stride);
    }
    let is_step = variables.get(STEP).is_some();
    let inner = match variables.get(OPEN_MPI.index) {
        Some(_) => Some(task(&OPEN_MPI, variables, true)?),
        None => is_step.then(|| task(&SRUN, variables, true)).transpose()?,
    };
    let Some(Ranked { index: rank, count: Some((size, source)) }) = inner else {
        return Ok(outer);
    };
    if rank >= size.into() {
        let last = size - 1;
        return Err(format!(
            "{source}: {size} with a task {rank}, expected tasks from 0 to {last}"
        ));
    }
    let index = outer.index.saturating_mul(size.into()).saturating_add(rank);
    let count = match outer.count {
        None => None,
        Some((tasks, source)) => {
            let all = tasks.checked_mul(size);
            let all = all.ok_or_else(|| format!("{source}: {tasks} times {size} is too large"))?;
            Some((all, source))
        }
    };
    Ok(Ranked { index, count })
}

/// Words the error of a process without a scheduler.
fn none_found(lookup: &dyn Fn(&str) -> Option<OsString>) -> String {
    let names: Vec<&str> = SCHEDULERS.iter().map(|scheduler| scheduler.index).collect();
    let empty: Vec<&str> = names.iter().copied().filter(|name| lookup(name).is_some()).collect();
    let empty = match empty.as_slice() {
        [] => String::new(),
        names => format!(" (empty: {})", names.join(", ")),
    };
    format!("no scheduler found, expected one of {}{empty}", names.join(", "))
}

/// The variables of the process.
struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
    /// Those whose values were read as numbers, once each.
    used: Vec<&'static str>,
}

impl Variables<'_> {
    /// Returns the value of a variable that is set and not empty.
    fn get(&self, name: &str) -> Option<OsString> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn whole(&mut self, name: &'static str) -> Result<u32, String> {
        self.read(name, "a whole number", digits)
    }

    fn positive(&mut self, name: &'static str) -> Result<u32, String> {
        let read = |text: &str| digits(text).filter(|number| *number > 0);
        self.read(name, "a whole number of at least 1", read)
    }

    fn number_at_end(&mut self, name: &'static str) -> Result<u32, String> {
        let read = |text: &str| digits(text.rsplit_once('-')?.1);
        self.read(name, "a name that ends in a dash and a number, such as tcpcore-3", read)
    }

    fn read(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl Fn(&str) -> Option<u32>,
    ) -> Result<u32, String> {
        let Some(value) = self.get(name) else {
            return Err(format!("{name}: not set, expected {expected}"));
        };
        let number = value.to_str().and_then(read);
        if number.is_some() && !self.used.contains(&name) {
            self.used.push(name);
        }
        number
            .ok_or_else(|| format!("{name}: {} is not allowed, expected {expected}", quoted(value)))
    }
}

/// Parses digits alone, as `parse` also takes a plus sign.
pub(super) fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
