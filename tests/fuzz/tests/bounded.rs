//! Every target on its kept inputs and on changed ones, for a bounded time, within its memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use isotick_fuzz::{Numbers, TARGETS, Target, mutate};

/// Each target's share of a test run, when `ISOTICK_FUZZ_SECONDS` says nothing else.
const SHARE_SECONDS: u64 = 2;
/// Which changed inputs, when `ISOTICK_FUZZ_SEED` says nothing else.
const SEED: u64 = 0xF022;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    /// Bytes that this thread holds, and the most it has held.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, counting per thread.
struct Counting;

fn count(bytes: isize) {
    // A thread that ends frees its last blocks when its counter is gone: nobody asks any more.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = now + bytes;
        held.set((now, most.max(now)));
    });
}

#[allow(unsafe_code, reason = "an allocator is an unsafe trait; each call goes on as it came")]
// SAFETY: every method hands its arguments to the system's allocator unchanged, and the counter
// neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise about the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise about pointer and layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise about pointer, layout and size.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs a target; returns the most memory that it held beyond what was held before, in bytes.
fn run(target: &Target, input: &[u8]) -> usize {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    (target.run)(input);
    HELD.with(|held| (held.get().1 - before) as usize)
}

/// Runs a target within its bound; on failure the input is printed, ready to be kept.
fn must_hold(target: &Target, input: &[u8], what: &str) -> usize {
    let name = target.name;
    let outcome = std::panic::catch_unwind(|| run(target, input));
    let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
    let keep = format!("keep the input as tests/fuzz/regressions/{name}/SAYS-WHAT.hex:\n{hex}");
    let Ok(held) = outcome else { panic!("{name}, {what}: a promise is broken; {keep}") };
    let bound = target.bound.of(input.len());
    assert!(held <= bound, "{name}, {what}: {held} bytes held, {bound} are allowed; {keep}");
    held
}

/// A number of the environment.
fn setting(name: &str, unset: u64) -> u64 {
    let Some(text) = std::env::var_os(name) else { return unset };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("{name} is no number: {}", text.display()))
}

fn bounded(name: &str) {
    let target = isotick_fuzz::target(name).expect("it is listed");
    let corpus = (target.corpus)();
    for (number, input) in corpus.iter().enumerate() {
        must_hold(target, input, &format!("input {number} of the corpus"));
    }
    for (file, input) in regressions(name) {
        must_hold(target, &input, &file);
    }
    let share = Duration::from_secs(setting("ISOTICK_FUZZ_SECONDS", SHARE_SECONDS));
    let mut numbers = Numbers::new(setting("ISOTICK_FUZZ_SEED", SEED));
    let (started, mut runs, mut most) = (Instant::now(), 0_u64, (0, 0));
    while started.elapsed() < share {
        let input = mutate::mutate(&corpus, &mut numbers);
        let held = must_hold(target, &input, &format!("run {runs}"));
        most = most.max((held, input.len()));
        runs += 1;
    }
    println!("{name}: {runs} runs, at most {} bytes held, by {} bytes of input", most.0, most.1);
}

/// Inputs that once broke a promise, as hexadecimal digits.
fn regressions(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name);
    let Ok(files) = std::fs::read_dir(&folder) else { return Vec::new() };
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.expect("the folder is readable").path();
        let text = std::fs::read_to_string(&path).expect("digits are text");
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| {
            u8::from_str_radix(&String::from_iter(pair), 16).expect("two hexadecimal digits")
        };
        (path.display().to_string(), digits.chunks(2).map(byte).collect())
    };
    files.map(read).collect()
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                bounded(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),*];
            let listed: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(listed, run);
        }
    };
}

targets!(
    message,
    control,
    datagram,
    column,
    frame,
    frame_again,
    windows,
    arrow,
    session,
    sequencer,
    record,
    record_again,
    dbn,
);

/// What a target allocates and frees again is what it held.
#[test]
fn memory_is_counted() {
    let held = |bytes: usize| {
        let target = Target {
            name: "test",
            run: |input| drop(std::hint::black_box(vec![1_u8; input.len() * 3])),
            corpus: Vec::new,
            bound: isotick_fuzz::Bound { bytes: 0, per_byte: 3 },
        };
        run(&target, &vec![0; bytes])
    };
    assert_eq!([held(0), held(1_000)], [0, 3_000]);
}
