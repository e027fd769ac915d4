//! libFuzzer over one target, whose name is the last argument, after `-ignore_remaining_args=1`.
//! With `--corpus FOLDER` before it, the target's own inputs are written there first.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use isotick_fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let arguments: Vec<String> = std::env::args().collect();
        let name = arguments.last().expect("a program has a name");
        let Some(target) = isotick_fuzz::target(name) else {
            panic!("there is no target `{name}`");
        };
        if let Some(at) = arguments.iter().position(|argument| argument == "--corpus") {
            write(target, Path::new(&arguments[at + 1]));
        }
        let _ = TARGET.set(target);
    },
    |bytes: &[u8]| {
        let target = TARGET.get().expect("it is set before the first run");
        (target.run)(bytes);
    }
);

fn write(target: &Target, folder: &Path) {
    for (number, input) in (target.corpus)().iter().enumerate() {
        let path = folder.join(format!("given-{number}"));
        std::fs::write(&path, input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
