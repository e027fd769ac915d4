//! A service to which io_uring is barred, as containers bar it: it says so, takes plain calls, and
//! everything else is as ever.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::program::crash::kill_again_and_again;
use crate::program::{DEFINITIONS, Place, Running, Service, csv, ticks};

/// `io_uring_setup`, `io_uring_enter`, `io_uring_register`: the same on every architecture.
const CALLS: [i64; 3] = [425, 426, 427];
const ENTER: [i64; 1] = [426];

const CALLS_BARRED: &str = "ISOTICK_TEST_CALLS_BARRED";
const ERROR: &str = "ISOTICK_TEST_ERROR";
const COMMAND: &str = "ISOTICK_TEST_COMMAND";
const BECOMES: &str = "program::network::barred::becomes_the_program";

/// No test by itself: the tests below run this binary again with this name, and it becomes the
/// program, to which the kernel answers some calls with an error.
#[test]
#[ignore = "the tests beside it start this"]
fn becomes_the_program() {
    let set = |name: &str| std::env::var_os(name)?.into_string().ok();
    let (Some(calls), Some(error), Some(command)) = (set(CALLS_BARRED), set(ERROR), set(COMMAND))
    else {
        return;
    };
    let error = error.parse().expect("a number");
    let calls = calls.split(',').map(|call| (call.parse().expect("a number"), Vec::new()));
    let filter = SeccompFilter::new(
        calls.collect::<BTreeMap<_, _>>(),
        SeccompAction::Allow,
        SeccompAction::Errno(error),
        std::env::consts::ARCH.try_into().expect("an architecture that filters are made for"),
    );
    let filter: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
    apply_filter(&filter).expect("a process may bar calls to itself");
    let mut program = Command::new(env!("CARGO_BIN_EXE_isotick"));
    panic!("{}", program.args(command.split_whitespace()).exec());
}

/// What is barred, and what the kernel says instead.
#[derive(Clone, Copy)]
struct Bar {
    calls: &'static [i64],
    error: Errno,
    said: &'static str,
}

/// A runtime's filter; a kernel without io_uring; a ring that may be made and not be used (where
/// it may not be made either, the kernel says why in its own words).
const BARS: [Bar; 3] = [
    Bar { calls: &CALLS, error: Errno::PERM, said: "Operation not permitted" },
    Bar { calls: &CALLS, error: Errno::NOSYS, said: "Function not implemented" },
    Bar { calls: &ENTER, error: Errno::PERM, said: "os error" },
];

impl Bar {
    fn start(self, place: &Place, command: &str) -> Running {
        let this = std::env::current_exe().expect("it runs");
        let calls: Vec<_> = self.calls.iter().map(i64::to_string).collect();
        let mut program = Command::new(this);
        program
            .args([BECOMES, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(CALLS_BARRED, calls.join(","))
            .env(ERROR, self.error.raw_os_error().to_string())
            .env(COMMAND, command)
            .current_dir(place.path("."));
        Running::start(program, command)
    }

    fn serve(self, place: &Place, listen: &str) -> Service {
        let command = format!("serve --data data --engine cpu --listen {listen} --io auto");
        let service = Place::listening(self.start(place, &command));
        let filtered = std::fs::read_to_string(format!("/proc/{}/status", service.running.id()));
        let filtered = filtered.expect("it runs");
        assert!(filtered.lines().any(|line| line == "Seccomp:\t2"), "no filter: {filtered}");
        service
    }
}

#[test]
fn without_io_uring_the_service_says_so_and_loses_nothing() {
    const ROWS: usize = 12_000;
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(241, ROWS, 80)));
    let hash = place.hash("bars --file ticks.csv");
    let calm = place.serve("calm");
    place.publish("ticks.csv", &calm, "").end().succeeded();
    calm.stop();
    let live = place.verified("bars", "calm")["hash"].clone();
    for bar in BARS {
        let service = bar.serve(&place, "127.0.0.1:0");
        let mut publisher = place.publish("ticks.csv", &service, "--rate 4000/s");
        let kills = (3_500, &[120, 170][..]);
        let serve_at = |address: &str| bar.serve(&place, address);
        let service = kill_again_and_again(&place, service, &mut publisher, kills, serve_at);
        let said = service.running.err_so_far();
        let why = "io_uring cannot be used here (";
        for words in [why, bar.said, "plain sockets", "1 ingest thread", "log: page cache"] {
            assert!(said.contains(words), "no `{words}`: {said}");
        }
        let report = publisher.end().succeeded().json();
        assert_eq!(report["accepted"], ROWS, "{report}");
        assert_eq!(report["durable_through"], ROWS, "{report}");
        service.stop();
        assert_eq!(place.hash("bars --data data"), hash);
        assert_eq!(place.ticks("data"), ROWS as u64);
        assert_eq!(place.verified("bars", "data")["hash"], live);
        std::fs::remove_dir_all(place.path("data")).expect("nothing uses it");
    }
}

#[test]
fn who_asks_for_io_uring_where_it_is_barred_is_refused_with_a_way_out() {
    let place = Place::new(DEFINITIONS);
    let refusals = [
        ("--io uring", ["datagrams cannot go by `uring`", "--io auto", "--io socket"]),
        ("--log-io uring", ["cannot use io_uring", "--log-io", "data/log"]),
    ];
    for bar in BARS {
        for (asked, words) in refusals {
            let serve = format!("serve --data data --engine cpu --listen 127.0.0.1:0 {asked}");
            let ended = bar.start(&place, &serve).end();
            assert_eq!(ended.code, Some(1), "{ended}");
            for said in words.into_iter().chain([bar.said]) {
                assert!(ended.err.contains(said), "no `{said}`: {ended}");
            }
        }
    }
}
