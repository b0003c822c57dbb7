//! `[runtime]`: the threads that a process really has, and where they may run.

use std::{collections::BTreeMap, fs};

use tickwire_tests::Process;

/// Where each thread of a process may run, as the system writes it, by the thread's name.
fn threads(server: &Process) -> BTreeMap<String, Vec<String>> {
    let mut threads = BTreeMap::<_, Vec<_>>::new();
    for entry in fs::read_dir(format!("/proc/{}/task", server.id())).unwrap() {
        // A thread may end while we look.
        let Ok(status) = fs::read_to_string(entry.unwrap().path().join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        threads.entry(field("Name:")).or_default().push(field("Cpus_allowed_list:"));
    }
    threads
}

fn starting_with<'a>(threads: &'a BTreeMap<String, Vec<String>>, prefix: &str) -> Vec<&'a String> {
    threads.iter().filter(|(name, _)| name.starts_with(prefix)).flat_map(|(_, places)| places).collect()
}

fn cores() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

#[tokio::test]
async fn a_process_has_the_threads_that_are_asked_for_and_tells_them() {
    let server = Process::start(&["runtime.workers=3", "runtime.compute_threads=2"]).await;
    let threads = threads(&server);
    assert_eq!(starting_with(&threads, "worker-").len(), 3, "{threads:?}");
    assert_eq!(starting_with(&threads, "bars-").len(), 2, "{threads:?}");
    for (kind, expected) in [("worker", 3), ("compute", 2), ("io", cores())] {
        assert_eq!(server.metric("tickwire_threads", &format!("kind=\"{kind}\"")).await, expected as f64, "{kind}");
    }
    let log = server.log();
    let line = log.lines().find(|line| line.contains("compute_threads")).unwrap_or_else(|| panic!("{log}"));
    let line = line.replace(['"', ':'], " ").replace('=', " ");
    let numbers: Vec<&str> = line.split([' ', ',', '}']).filter(|word| !word.is_empty()).collect();
    let value_of = |name: &str| numbers.iter().position(|word| *word == name).map(|at| numbers[at + 1]);
    assert_eq!((value_of("workers"), value_of("compute_threads")), (Some("3"), Some("2")), "{line}");
}

#[tokio::test]
async fn without_a_word_there_is_one_worker_for_each_core_and_all_run_anywhere() {
    let server = Process::start(&[]).await;
    let threads = threads(&server);
    let workers = starting_with(&threads, "worker-");
    assert_eq!(workers.len(), cores(), "{threads:?}");
    assert!(workers.iter().all(|place| *place == &threads["tickwire"][0]), "{threads:?}");
}

/// Only workers are pinned: nobody else shall wait for the one core that a busy worker has.
#[tokio::test]
async fn pinned_workers_keep_to_cores_of_the_process_in_turn() {
    let count = cores() + 1;
    let server = Process::start(&["runtime.pin=true", &format!("runtime.workers={count}")]).await;
    let threads = threads(&server);
    let mut places: Vec<usize> =
        starting_with(&threads, "worker-").iter().map(|place| place.parse().expect("a single core")).collect();
    assert_eq!(places.len(), count, "{threads:?}");
    places.sort_unstable();
    places.dedup();
    let everywhere = &threads["tickwire"][0];
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    assert_eq!(places.len(), (allowed.count() as usize).min(count), "{threads:?}");
    assert!(places.iter().all(|core| allowed.is_set(*core)), "{threads:?}");
    for prefix in ["bars-", "runtime"] {
        assert!(starting_with(&threads, prefix).iter().all(|place| *place == everywhere), "{threads:?}");
    }
    assert!(server.log().contains("more socket workers than cores"), "{}", server.log());
}
