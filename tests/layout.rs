//! The tree explains itself: a README per folder, shaders with their contract on top.

use std::fs;
use std::path::{Path, PathBuf};

use crate::layering;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What builds leave behind; git does not know it.
const NOT_OURS: [&str; 2] = ["target", "bundle"];

#[test]
fn every_folder_says_what_it_is() {
    let metadata = layering::metadata(true).expect("cargo metadata runs");
    let members = metadata.workspace_packages();
    let mut folders: Vec<PathBuf> =
        members.iter().map(|p| p.manifest_path.parent().expect("a folder").into()).collect();
    for entry in fs::read_dir(root()).expect("the root is readable") {
        let entry = entry.expect("the root is readable");
        let name = entry.file_name().into_string().expect("names are text");
        if entry.path().is_dir() && !name.starts_with('.') && !NOT_OURS.contains(&name.as_str()) {
            folders.push(entry.path());
        }
    }
    folders.sort();
    folders.dedup();
    let silent: Vec<_> = folders
        .iter()
        .map(|folder| folder.join("README.md"))
        .filter(|readme| fs::read_to_string(readme).map_or(0, |text| text.trim().len()) < 100)
        .collect();
    assert!(silent.is_empty(), "missing, or with nothing said in them: {silent:?}");
}

#[test]
fn every_kernel_states_its_contract_in_order() {
    let mut shaders = Vec::new();
    find(&root().join("shaders"), "wgsl", &mut shaders);
    assert!(!shaders.is_empty(), "no shader found below shaders/");
    let faults: Vec<_> = shaders
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).expect("a shader is readable");
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("names are text");
            contract(stem, &text).err().map(|why| format!("{}: {why}", path.display()))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn find(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the folder is readable").path();
        match path.extension() {
            _ if path.is_dir() => find(&path, extension, found),
            Some(e) if e == extension => found.push(path),
            _ => {}
        }
    }
}

/// A header is the comment that a file starts with: one sentence, then the labels in this order.
fn contract(stem: &str, text: &str) -> Result<(), String> {
    const LABELS: [&str; 7] =
        ["Reads", "Writes", "Dispatch", "Requires", "Ensures", "Order", "Source"];
    let header: Vec<&str> =
        text.lines().map_while(|line| line.strip_prefix("//")).map(str::trim).collect();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    if header.first().is_none_or(|sentence| sentence.is_empty()) {
        return Err("the first line is not a comment that says what it does".into());
    }
    let entries = code.matches("@compute").count();
    if entries == 0 {
        let bound = code.contains("@group");
        return if bound { Err("shared code has a binding".into()) } else { Ok(()) };
    }
    if entries > 1 {
        return Err("more than one entry point".into());
    }
    if !code.contains(&format!("fn {stem}(")) {
        return Err(format!("the entry point is not named `{stem}`, like the file"));
    }
    let labels: Vec<&str> = header
        .iter()
        .filter_map(|line| line.split_once(':').map(|(label, _)| label))
        .filter(|label| LABELS.contains(label))
        .collect();
    if labels != LABELS {
        return Err(format!("the header has {labels:?}, not {LABELS:?} in this order"));
    }
    Ok(())
}

#[test]
fn a_contract_out_of_order_is_refused() {
    let header = "// Sums runs.\n// Reads: a.\n// Writes: b.\n// Dispatch: c.\n// Requires: d.\n\
                  // Ensures: e.\n// Order: f.\n// Source: g.\n";
    let code = "@compute @workgroup_size(64)\nfn sum() {}\n";
    let whole = format!("{header}{code}");
    assert_eq!(contract("sum", &whole), Ok(()));
    assert!(contract("other", &whole).is_err());
    assert!(contract("sum", code).is_err());
    assert!(contract("sum", &whole.replace("// Order: f.\n", "")).is_err());
    let swapped =
        whole.replace("Reads:", "x:").replace("Writes:", "Reads:").replace("x:", "Writes:");
    assert!(contract("sum", &swapped).is_err());
    assert!(
        contract("wide", "// Wide integers.\n@group(0) @binding(0) var<storage> a: u32;").is_err()
    );
}
