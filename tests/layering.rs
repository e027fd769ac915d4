//! Dependencies point one way: what `cargo metadata` says, held against the layout.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Which crates of ours each crate may build on.
const EDGES: &[(&str, &[&str], &str)] = &[
    ("isotick-model", &[], "model is the vocabulary and builds on no crate of ours"),
    ("isotick-shaders", &[], "shaders holds WGSL text and builds on no crate of ours"),
    ("isotick-kernels", &["isotick-model"], "kernels builds on model only"),
    (
        "isotick-gpu",
        &["isotick-model", "isotick-kernels", "isotick-shaders"],
        "kernels/gpu builds on kernels, shaders and model",
    ),
    ("isotick-storage", &["isotick-model"], "storage builds on model only"),
    ("isotick-wire", &["isotick-model"], "ingest/wire is a pure codec on model"),
    ("isotick-ingest", &["isotick-model", "isotick-wire"], "ingest builds on model and wire"),
    ("isotick-client", &["isotick-model", "isotick-wire"], "the client builds on model and wire"),
    (
        "isotick-scheduler",
        &["isotick-model", "isotick-kernels"],
        "the scheduler sees plans, partials and model",
    ),
];

/// The composition root, and the tools beside it: they may see everything, nothing sees them.
const ROOTS: [&str; 3] = ["isotick", "isotick-fuzz", "isotick-xtask"];

/// Crates with their families (`wgpu` stands for `wgpu-core` too), and the only crates of ours
/// that may name them.
const WALLS: &[(&str, &[&str])] = &[
    ("wgpu", &["isotick-gpu"]),
    ("io-uring", &["isotick-ingest", "isotick-storage"]),
    ("quinn", &["isotick-ingest", "isotick-client"]),
    ("rustls", &["isotick-ingest", "isotick-client"]),
    ("datafusion", &[]),
];

/// Crates that must not reach an async runtime by any path.
const NO_TOKIO: [&str; 6] = [
    "isotick-model",
    "isotick-shaders",
    "isotick-wire",
    "isotick-kernels",
    "isotick-gpu",
    "isotick-scheduler",
];

/// Each crate with what it builds on, tests left out: ours, and everything they reach.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The workspace as cargo resolves it, for this machine only or for every platform.
pub fn metadata(for_host_only: bool) -> Result<Metadata, cargo_metadata::Error> {
    let mut options = Vec::new();
    if for_host_only {
        options.extend(["--filter-platform".to_string(), host()]);
    }
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).other_options(options).exec()
}

fn host() -> String {
    let rustc = std::process::Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8(rustc.stdout).expect("rustc prints text");
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.expect("rustc -vV names the host").to_string()
}

fn graph(metadata: &Metadata) -> (BTreeSet<String>, Graph) {
    let name = |id| metadata[id].name.to_string();
    let resolve = metadata.resolve.as_ref().expect("cargo metadata resolves");
    let edges = resolve.nodes.iter().map(|node| {
        let builds_on = node.deps.iter().filter(|dependency| {
            dependency.dep_kinds.iter().any(|info| info.kind != DependencyKind::Development)
        });
        (name(&node.id), builds_on.map(|dependency| name(&dependency.pkg)).collect())
    });
    let mut graph = Graph::new();
    for (from, to) in edges {
        graph.entry(from).or_default().extend::<BTreeSet<String>>(to);
    }
    (metadata.workspace_members.iter().map(name).collect(), graph)
}

/// Every broken rule, as a sentence.
fn faults(ours: &BTreeSet<String>, graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for from in ours {
        let to = &graph[from];
        let rule = EDGES.iter().find(|(name, ..)| name == from);
        if rule.is_none() && !ROOTS.contains(&from.as_str()) {
            faults.push(format!("{from} has no place in the layering: give it one in EDGES"));
        }
        for dependency in to.intersection(ours) {
            if ROOTS.contains(&dependency.as_str()) {
                faults.push(format!("{from} -> {dependency}: nothing builds on the root"));
            } else if let Some((_, allowed, why)) = rule
                && !allowed.contains(&dependency.as_str())
            {
                faults.push(format!("{from} -> {dependency}: {why}"));
            }
        }
        for (wall, allowed) in WALLS {
            let behind = |name: &&String| {
                *name == wall || name.strip_prefix(wall).is_some_and(|rest| rest.starts_with('-'))
            };
            for dependency in to.iter().filter(behind) {
                if !allowed.contains(&from.as_str()) {
                    let where_to =
                        if allowed.is_empty() { "nowhere".into() } else { allowed.join(", ") };
                    faults.push(format!("{from} -> {dependency}: {wall} is allowed in {where_to}"));
                }
            }
        }
        if NO_TOKIO.contains(&from.as_str())
            && let Some(path) = path_to(graph, from, "tokio")
        {
            faults.push(format!("{path}: {from} is free of async runtimes"));
        }
    }
    faults
}

/// A shortest chain of dependencies, `a -> b -> c`.
fn path_to(graph: &Graph, from: &str, to: &str) -> Option<String> {
    let mut reached = BTreeSet::from([from.to_string()]);
    let mut paths = std::collections::VecDeque::from([vec![from.to_string()]]);
    while let Some(path) = paths.pop_front() {
        let last = path.last().expect("a path has a start");
        if last == to {
            return Some(path.join(" -> "));
        }
        for next in graph.get(last).into_iter().flatten() {
            if reached.insert(next.clone()) {
                paths.push_back([path.as_slice(), std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

#[test]
fn dependencies_point_one_way() {
    let (ours, graph) = graph(&metadata(true).expect("cargo metadata runs"));
    assert!(EDGES.iter().all(|(name, ..)| ours.contains(*name)), "a crate is gone: {ours:?}");
    let faults = faults(&ours, &graph);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_wrong_edge_is_named_with_its_rule() {
    let (ours, graph) = graph(&metadata(true).expect("cargo metadata runs"));
    for (from, to, rule) in [
        ("isotick-model", "isotick-kernels", "model is the vocabulary"),
        ("isotick-storage", "isotick-wire", "storage builds on model only"),
        ("isotick-kernels", "isotick-shaders", "kernels builds on model only"),
        ("isotick-scheduler", "wgpu", "wgpu is allowed in isotick-gpu"),
        ("isotick", "wgpu-core", "wgpu is allowed in isotick-gpu"),
        ("isotick-storage", "quinn-proto", "quinn is allowed in isotick-ingest, isotick-client"),
        ("isotick-client", "io-uring", "io-uring is allowed in isotick-ingest, isotick-storage"),
        ("isotick", "datafusion", "datafusion is allowed in nowhere"),
        ("isotick-wire", "tokio", "isotick-wire is free of async runtimes"),
        ("isotick-kernels", "isotick", "nothing builds on the root"),
    ] {
        let mut wrong = graph.clone();
        wrong.get_mut(from).expect("one of ours").insert(to.into());
        let faults = faults(&ours, &wrong);
        let named =
            |fault: &String| fault.contains(&format!("{from} -> {to}: ")) && fault.contains(rule);
        assert!(faults.iter().any(named), "{from} -> {to} was not caught: {faults:?}");
    }
}
