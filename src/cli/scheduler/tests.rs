use super::*;

/// Finds the place with these variables: `NAME=value NAME=value`.
fn detect_in(variables: &str) -> Result<Place, String> {
    let pairs: Vec<_> = variables.split_whitespace().map(|v| v.split_once('=').unwrap()).collect();
    detect(&|name| {
        let found = pairs.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    })
}

/// Asserts the place, as `I/N`, and the variables that say so.
#[track_caller]
fn assert_place(variables: &str, place: &str, source: &[&str]) {
    let found = detect_in(variables).unwrap_or_else(|error| panic!("{variables}: {error}"));
    assert_eq!(format!("{}/{}", found.index, found.count), place, "{variables}");
    assert_eq!(found.source, source, "{variables}");
}

#[track_caller]
fn assert_error(variables: &str, error: &str) {
    assert_eq!(detect_in(variables), Err(error.to_owned()), "{variables}");
}

#[test]
fn any_scheduler_that_can_set_a_variable() {
    let variables = "TCPCORE_SHARD=0 TCPCORE_SHARDS=4";
    assert_place(variables, "0/4", &["TCPCORE_SHARDS", "TCPCORE_SHARD"]);
    assert_error(
        "TCPCORE_SHARD=4 TCPCORE_SHARDS=4",
        "TCPCORE_SHARD: \"4\" is not allowed, expected a number from 0 to 3, as TCPCORE_SHARDS is 4",
    );
    assert_error(
        "TCPCORE_SHARD=2",
        "TCPCORE_SHARDS: not set, expected the number of shards beside TCPCORE_SHARD",
    );
}

#[test]
fn docker_swarm_counts_from_1() {
    let source = ["TCPCORE_SHARDS", "TCPCORE_SLOT"];
    assert_place("TCPCORE_SLOT=1 TCPCORE_SHARDS=4", "0/4", &source);
    assert_place("TCPCORE_SLOT=4 TCPCORE_SHARDS=4", "3/4", &source);
    assert_error(
        "TCPCORE_SLOT=0 TCPCORE_SHARDS=4",
        "TCPCORE_SLOT: \"0\" is not allowed, expected a whole number of at least 1",
    );
    assert_error(
        "TCPCORE_SLOT=5 TCPCORE_SHARDS=4",
        "TCPCORE_SLOT: \"5\" is not allowed, expected a number from 1 to 4, as TCPCORE_SHARDS is 4",
    );
    // A template that is not filled in.
    assert_error(
        "TCPCORE_SLOT={{.Task.Slot}} TCPCORE_SHARDS=4",
        "TCPCORE_SLOT: \"{{.Task.Slot}}\" is not allowed, expected a whole number of at least 1",
    );
}

#[test]
fn a_slurm_array_counts_from_its_first_task_by_its_stride() {
    let source = [
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_COUNT",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_MAX",
    ];
    let array = |id: u32, first: u32, last: u32, count: u32| {
        format!(
            "SLURM_ARRAY_TASK_ID={id} SLURM_ARRAY_TASK_MIN={first} SLURM_ARRAY_TASK_MAX={last} \
             SLURM_ARRAY_TASK_COUNT={count} SLURM_PROCID=0 SLURM_NTASKS=8"
        )
    };
    assert_place(&array(0, 0, 3, 4), "0/4", &source);
    assert_place(&array(4, 1, 4, 4), "3/4", &source);
    let stride = [&source[..], &["SLURM_ARRAY_TASK_STEP"]].concat();
    assert_place(&(array(5, 1, 7, 4) + " SLURM_ARRAY_TASK_STEP=2"), "2/4", &stride);
    assert_error(
        &array(2, 1, 9, 3),
        "SLURM_ARRAY_TASK_COUNT: 3 tasks from 1 to 9 by 1 have gaps, \
         expected an array without gaps, or TCPCORE_SHARDS with the number of shards",
    );
    assert!(detect_in(&array(9, 1, 4, 4)).is_err());
    assert!(detect_in(&array(0, 1, 4, 4)).is_err());
    assert!(detect_in(&array(2, 4, 1, 4)).is_err());
    assert!(detect_in(&(array(2, 1, 7, 4) + " SLURM_ARRAY_TASK_STEP=2")).is_err());
    assert_error(
        "SLURM_ARRAY_TASK_ID=2 SLURM_ARRAY_TASK_COUNT=4 SLURM_ARRAY_TASK_MAX=3",
        "SLURM_ARRAY_TASK_MIN: not set, expected a whole number",
    );
}

#[test]
fn one_task_of_a_slurm_array_is_started_again_with_the_number_of_shards() {
    let again = "SLURM_ARRAY_TASK_ID=2 SLURM_ARRAY_TASK_MIN=2 SLURM_ARRAY_TASK_MAX=2 \
                 SLURM_ARRAY_TASK_COUNT=1 TCPCORE_SHARDS=4";
    assert_place(again, "2/4", &["TCPCORE_SHARDS", "SLURM_ARRAY_TASK_ID"]);
    assert_error(
        "SLURM_ARRAY_TASK_ID=4 TCPCORE_SHARDS=4 SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2",
        "SLURM_ARRAY_TASK_ID=4 SLURM_PROCID=1 SLURM_NTASKS=2: shard 9, \
         expected one from 0 to 3, as TCPCORE_SHARDS is 4",
    );
}

/// Task 5 of an array from 4 to 6.
const ARRAY: &str = "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=4 SLURM_ARRAY_TASK_MAX=6 \
                     SLURM_ARRAY_TASK_COUNT=3 SLURM_NTASKS=4";

#[test]
fn the_processes_of_a_slurm_array_have_a_place_each() {
    let place = |variables: &str| {
        let Place { index, count, .. } = detect_in(&format!("{ARRAY} {variables}")).unwrap();
        (index, count)
    };
    assert_eq!(place("SLURM_PROCID=0"), (1, 3));
    assert_eq!(place("SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1"), (1, 3));
    assert_eq!(place("SLURM_STEP_ID=0 SLURM_PROCID=3"), (7, 12));
    assert_eq!(place("OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 SLURM_PROCID=0"), (3, 6));
    assert_eq!(place("SLURM_STEP_ID=0 SLURM_PROCID=3 TCPCORE_SHARDS=40"), (23, 40));
    assert_eq!(
        detect_in(&format!("{ARRAY} SLURM_STEP_ID=0 SLURM_PROCID=4")),
        Err("SLURM_NTASKS: 4 with a task 4, expected tasks from 0 to 3".into())
    );
}

#[test]
fn srun_counts_the_tasks_of_its_step() {
    let step = "SLURM_STEP_ID=0 SLURM_PROCID=3 SLURM_NTASKS=4";
    assert_place(step, "3/4", &["SLURM_PROCID", "SLURM_NTASKS"]);
    let step = "SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=8 SLURM_STEP_NUM_TASKS=2";
    assert_place(step, "1/2", &["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"]);
    assert_error(
        "SLURM_STEP_ID=0 SLURM_PROCID=1",
        "SLURM_STEP_NUM_TASKS: not set, expected a whole number of at least 1",
    );
}

#[test]
fn a_batch_script_without_srun_is_no_task() {
    // Otherwise it would take the first of four parts, and nothing would take the others.
    assert_error(
        "SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_JOB_ID=17",
        "SLURM_STEP_ID: not set, so SLURM_PROCID is that of the batch script, which counts no tasks; \
         start tcpcore with srun",
    );
}

#[test]
fn open_mpi_counts_its_ranks_also_within_a_job_of_slurm() {
    let source = ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"];
    assert_place("OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3", "2/3", &source);
    // The daemon of mpirun is a task of its own.
    let within = "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3 SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2";
    assert_place(within, "2/3", &source);
}

#[test]
fn aws_batch_counts_the_children_of_an_array_job() {
    let source = ["AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"];
    assert_place("AWS_BATCH_JOB_ARRAY_INDEX=0 AWS_BATCH_JOB_ARRAY_SIZE=10", "0/10", &source);
    assert_error(
        "AWS_BATCH_JOB_ARRAY_INDEX=0",
        "AWS_BATCH_JOB_ARRAY_SIZE: not set, expected a whole number of at least 1",
    );
}

#[test]
fn an_indexed_job_of_kubernetes_needs_the_number_of_shards() {
    let source = ["TCPCORE_SHARDS", "JOB_COMPLETION_INDEX"];
    // Its pod's name ends in random letters.
    let variables = "JOB_COMPLETION_INDEX=3 TCPCORE_SHARDS=4 POD_NAME=feeds-3-x2k9q";
    assert_place(variables, "3/4", &source);
    assert_error(
        "JOB_COMPLETION_INDEX=3",
        "TCPCORE_SHARDS: not set, expected the number of shards beside JOB_COMPLETION_INDEX",
    );
    assert_error(
        "JOB_COMPLETION_INDEX=+1 TCPCORE_SHARDS=4",
        "JOB_COMPLETION_INDEX: \"+1\" is not allowed, expected a whole number",
    );
    assert_error(
        "JOB_COMPLETION_INDEX=1 TCPCORE_SHARDS=0",
        "TCPCORE_SHARDS: \"0\" is not allowed, expected a whole number of at least 1",
    );
}

#[test]
fn a_pod_of_a_stateful_set_has_its_index_in_a_label_or_in_its_name() {
    let source = ["TCPCORE_SHARDS", "POD_INDEX"];
    assert_place("POD_INDEX=2 TCPCORE_SHARDS=4 POD_NAME=feeds-2", "2/4", &source);
    // Before Kubernetes 1.28 the label is absent, and the variable empty.
    let source = ["TCPCORE_SHARDS", "POD_NAME"];
    assert_place("POD_INDEX= TCPCORE_SHARDS=14 POD_NAME=north-feeds-13", "13/14", &source);
    assert_error(
        "POD_NAME=feeds-7d4b9-x2x1z TCPCORE_SHARDS=4",
        "POD_NAME: \"feeds-7d4b9-x2x1z\" is not allowed, \
         expected a name that ends in a dash and a number, such as tcpcore-3",
    );
    assert_error(
        "POD_NAME=feeds-4 TCPCORE_SHARDS=4",
        "POD_NAME: \"feeds-4\" is not allowed, \
         expected a name with -0 to -3 at its end, as TCPCORE_SHARDS is 4",
    );
}

#[test]
fn nomad_counts_its_allocations() {
    let source = ["TCPCORE_SHARDS", "NOMAD_ALLOC_INDEX"];
    assert_place("NOMAD_ALLOC_INDEX=1 TCPCORE_SHARDS=2", "1/2", &source);
}

#[test]
fn the_number_of_shards_replaces_that_of_the_scheduler() {
    let source = ["TCPCORE_SHARDS", "SLURM_PROCID"];
    assert_place("SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2 TCPCORE_SHARDS=8", "1/8", &source);
}

#[test]
fn without_a_scheduler_the_error_names_all_variables_and_those_that_are_empty() {
    let error = detect_in("TCPCORE_SHARDS=4").unwrap_err();
    for [_, index, _] in schedulers() {
        assert!(error.contains(index), "{error}");
    }
    assert!(!error.contains("empty"), "{error}");
    let error = detect_in("POD_INDEX=").unwrap_err();
    assert!(error.ends_with("(empty: POD_INDEX)"), "{error}");
}

#[test]
#[cfg(unix)]
fn a_value_that_is_not_utf_8_is_quoted() {
    use std::os::unix::ffi::OsStringExt;
    let found = detect(&|name| (name == "POD_INDEX").then(|| OsString::from_vec(vec![0xff])));
    assert!(found.unwrap_err().starts_with("POD_INDEX: "));
}

#[test]
fn what_a_user_sets_comes_before_what_a_scheduler_sets() {
    let all = "POD_NAME=a-1 POD_INDEX=1 NOMAD_ALLOC_INDEX=1 JOB_COMPLETION_INDEX=1 TCPCORE_SLOT=3 \
               SLURM_PROCID=1 TCPCORE_SHARDS=9";
    assert_place(all, "2/9", &["TCPCORE_SHARDS", "TCPCORE_SLOT"]);
    assert_place(&format!("{all} TCPCORE_SHARD=7"), "7/9", &["TCPCORE_SHARDS", "TCPCORE_SHARD"]);
}
