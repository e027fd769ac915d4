//! Every dependency, on every platform, comes under a licence that lets us be MIT OR Apache-2.0.

use std::iter::Peekable;

use crate::layering;

/// Licences that ask for no more than to be named.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates under a licence that is not in the list, each with the licence it is let in under.
/// Nothing is at present.
const EXCEPTIONS: &[(&str, &str)] = &[];

#[test]
fn every_dependency_is_under_a_permissive_licence() {
    let metadata = layering::metadata(false).or_else(|error| {
        println!("only this platform's dependencies are checked: {error}");
        layering::metadata(true)
    });
    let mut faults = Vec::new();
    for package in &metadata.expect("cargo metadata runs").packages {
        let licence = package.license.as_deref().unwrap_or("");
        let excepted = EXCEPTIONS.contains(&(package.name.as_str(), licence));
        match allows(licence) {
            Ok(true) => {}
            _ if excepted => {}
            Ok(false) => faults.push(format!(
                "{} {}: `{licence}` is not permissive: replace the crate, or add it to EXCEPTIONS \
                 with the reason why nothing else will do",
                package.name, package.version
            )),
            Err(why) => {
                faults.push(format!("{} {}: `{licence}`: {why}", package.name, package.version));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether a licence expression can be satisfied with permissive licences alone.
fn allows(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = either(&mut words)?;
    match words.next() {
        None => Ok(allowed),
        Some(word) => Err(format!("unexpected `{word}`")),
    }
}

/// expression = term { "OR" term }
fn either<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Result<bool, String> {
    let mut allowed = both(words)?;
    while words.next_if_eq(&"OR").is_some() {
        allowed |= both(words)?;
    }
    Ok(allowed)
}

/// term = factor { "AND" factor }
fn both<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Result<bool, String> {
    let mut allowed = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words)?;
    }
    Ok(allowed)
}

/// factor = "(" expression ")" | licence [ "WITH" exception ]
fn one<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Result<bool, String> {
    match words.next() {
        Some("(") => {
            let allowed = either(words)?;
            match words.next() {
                Some(")") => Ok(allowed),
                _ => Err("a parenthesis is not closed".into()),
            }
        }
        None | Some(")" | "AND" | "OR" | "WITH") => Err("a licence is missing".into()),
        Some(licence) => match words.next_if_eq(&"WITH") {
            None => Ok(PERMISSIVE.contains(&licence)),
            Some(_) => {
                let exception = words.next().ok_or("an exception is missing")?;
                Ok(PERMISSIVE.contains(&format!("{licence} WITH {exception}").as_str()))
            }
        },
    }
}

#[test]
fn expressions_are_read_as_written() {
    for (expression, allowed) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("MIT OR GPL-3.0-only AND LGPL-2.1-only", true),
        ("(MIT OR GPL-3.0-only) AND LGPL-2.1-only", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0 WITH Other-exception", false),
        ("MPL-2.0", false),
    ] {
        assert_eq!(allows(expression), Ok(allowed), "{expression}");
    }
    for broken in ["", "MIT OR", "(MIT", "MIT MIT", "AND MIT", "MIT)"] {
        assert!(allows(broken).is_err(), "{broken}");
    }
}

#[test]
fn our_own_licences_are_here() {
    for (file, sentence) in [
        ("LICENSE-MIT", "Permission is hereby granted, free of charge"),
        ("LICENSE-APACHE", "Version 2.0, January 2004"),
    ] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(text.contains(sentence), "{file} holds another text");
    }
}
