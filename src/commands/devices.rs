//! `isotick devices`: adapters, what they offer, and which would be used.

use std::process::ExitCode;

use anyhow::Result;
use isotick_gpu::{AdapterInfo, AdapterUsage};
use serde_json::json;

use crate::cli::DevicesArgs;

pub fn run(args: DevicesArgs) -> Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let adapters = isotick_gpu::devices();
    if args.json {
        let adapters: Vec<_> = adapters.iter().map(to_json).collect();
        println!("{}", json!({ "cpu": { "threads": cores }, "adapters": adapters }));
        return Ok(ExitCode::SUCCESS);
    }
    println!("cpu engine: {cores} threads, always there");
    if adapters.is_empty() {
        println!(
            "no GPU adapter: everything runs on the CPU engine, with the same results\n\
             (for a software adapter install mesa-vulkan-drivers and libvulkan1)"
        );
    }
    for adapter in &adapters {
        let limits = &adapter.limits;
        println!(
            "\nadapter {}: {} ({}, {})",
            adapter.index, adapter.name, adapter.backend, adapter.kind
        );
        println!("  driver     {}", adapter.driver);
        println!("  used       {}: {}", adapter.usage, adapter.reason);
        let features = adapter.features.iter();
        let features: Vec<_> = features
            .map(|(name, has)| format!("{} {name}", if *has { "+" } else { "-" }))
            .collect();
        println!("  features   {}", features.join(", "));
        println!(
            "  limits     storage binding {} MiB, buffer {} MiB, {} storage buffers, workgroups \
             {} per dimension, {} invocations and {} KiB memory per workgroup",
            limits.storage_binding_bytes >> 20,
            limits.buffer_bytes >> 20,
            limits.storage_buffers,
            limits.workgroups_per_dimension,
            limits.workgroup_invocations,
            limits.workgroup_memory_bytes >> 10,
        );
    }
    let automatic = adapters.iter().find(|adapter| adapter.usage == AdapterUsage::Automatic);
    match automatic {
        Some(adapter) => println!("\n--engine auto uses {}", adapter.name),
        None => println!("\n--engine auto uses the CPU engine"),
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(adapter: &AdapterInfo) -> serde_json::Value {
    let limits = &adapter.limits;
    let features = adapter.features.iter();
    let features: serde_json::Map<_, _> =
        features.map(|(name, has)| ((*name).to_owned(), (*has).into())).collect();
    json!({
        "index": adapter.index,
        "name": adapter.name,
        "backend": adapter.backend,
        "driver": adapter.driver,
        "kind": adapter.kind.to_string(),
        "used": adapter.usage.to_string(),
        "reason": adapter.reason,
        "features": features,
        "limits": {
            "storage_binding_bytes": limits.storage_binding_bytes,
            "buffer_bytes": limits.buffer_bytes,
            "storage_buffers": limits.storage_buffers,
            "workgroup_invocations": limits.workgroup_invocations,
            "workgroup_memory_bytes": limits.workgroup_memory_bytes,
            "workgroups_per_dimension": limits.workgroups_per_dimension,
        },
    })
}
