//! Resolves imports, validates every shader and writes what the crate exposes: the expanded
//! source, the bindings, and compile-time checks of the host structs against naga's reflection.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess, TypeInner};

#[path = "src/import.rs"]
mod import;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=.");
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let includes = read_folder(Path::new("include"))?;
    for (name, text) in &includes {
        if text.contains("@group") || text.contains("@compute") {
            return Err(format!("include/{name}.wgsl: an include has no bindings or entry points"));
        }
    }
    let (mut shaders, mut checks) = (String::new(), String::new());
    let mut names = Vec::new();
    for (name, text) in read_folder(Path::new("."))? {
        let file = format!("{name}.wgsl");
        let flags = import::permuted_flags(&text);
        let (mut bindings, mut permutations) = (None, String::new());
        // Every combination of the flags, by the bits of a number.
        for bits in 0..1_u32 << flags.len() {
            let on = flags.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
            let on: Vec<&str> = on.map(|(_, flag)| flag.as_str()).collect();
            let source = import::expand(&file, &text, &includes, &on)?;
            let module = validate(&format!("{file} {on:?}"), &source, &on)?;
            match module.entry_points.as_slice() {
                [entry] if entry.name == name && entry.stage == ShaderStage::Compute => {}
                _ => return Err(format!("{file}: must hold one compute entry point, '{name}'")),
            }
            let reflected = reflect(&name, &module)?;
            if *bindings.get_or_insert_with(|| reflected.clone()) != reflected {
                return Err(format!("{file}: {on:?} has other bindings"));
            }
            let expanded = format!("{name}.{bits}.wgsl");
            fs::write(out.join(&expanded), source).map_err(|error| format!("{file}: {error}"))?;
            _ = writeln!(
                permutations,
                "        Permutation {{ flags: &{on:?}, \
                 source: include_str!(concat!(env!(\"OUT_DIR\"), \"/{expanded}\")) }},"
            );
            check_layouts(&module, &mut checks);
        }
        let constant = name.to_uppercase();
        _ = writeln!(
            shaders,
            "/// `{name}.wgsl`.\npub const {constant}: Shader = Shader {{\n    name: \"{name}\",\n    \
             permutations: &[\n{permutations}    ],\n    bindings: &[\n{}    ],\n}};",
            bindings.unwrap_or_default()
        );
        names.push(constant);
    }
    _ = writeln!(
        shaders,
        "/// Every shader, by name.\npub const ALL: &[Shader] = &[{}];",
        names.join(", ")
    );
    fs::write(out.join("shaders.rs"), shaders).map_err(|error| error.to_string())?;
    fs::write(out.join("layout_checks.rs"), checks).map_err(|error| error.to_string())
}

/// The `.wgsl` files of a folder: name without extension, text.
fn read_folder(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let message = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(message)? {
        let path = entry.map_err(message)?.path();
        if path.extension().is_some_and(|extension| extension == "wgsl") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, fs::read_to_string(&path).map_err(message)?);
        }
    }
    Ok(files)
}

/// Core WGSL, and what the flags stand for.
fn validate(file: &str, source: &str, flags: &[&str]) -> Result<Module, String> {
    let mut capabilities = Capabilities::empty();
    capabilities.set(Capabilities::SHADER_INT64, flags.contains(&"INT64"));
    capabilities.set(Capabilities::SUBGROUP, flags.contains(&"SUBGROUP"));
    let module = naga::front::wgsl::parse_str(source)
        .map_err(|error| format!("{file}: {}", error.emit_to_string_with_path(source, file)))?;
    Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|error| format!("{file}: {}", error.emit_to_string_with_path(source, file)))?;
    Ok(module)
}

/// The bindings of a shader, as the text of its constant's entries.
fn reflect(name: &str, module: &Module) -> Result<String, String> {
    let mut bindings = BTreeMap::new();
    for (_, variable) in module.global_variables.iter() {
        let (Some(resource), Some(binding)) = (&variable.name, variable.binding) else { continue };
        let access = match variable.space {
            AddressSpace::Uniform => "Uniform",
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => {
                "ReadWrite"
            }
            AddressSpace::Storage { .. } => "Read",
            space => return Err(format!("{name}.wgsl: {resource} is in {space:?}")),
        };
        if binding.group != 0 {
            return Err(format!("{name}.wgsl: {resource} must be in group 0"));
        }
        bindings.insert(binding.binding, (resource, access));
    }
    let mut text = String::new();
    for (index, (resource, access)) in &bindings {
        _ = writeln!(
            text,
            "        Binding {{ index: {index}, name: \"{resource}\", access: Access::{access} }},"
        );
    }
    Ok(text)
}

/// For every struct behind a binding: size and member offsets of the host's struct of that name.
fn check_layouts(module: &Module, checks: &mut String) {
    for (_, variable) in module.global_variables.iter() {
        if variable.binding.is_none() {
            continue;
        }
        let bound = match module.types[variable.ty].inner {
            TypeInner::Array { base, .. } => &module.types[base],
            _ => &module.types[variable.ty],
        };
        let (Some(name), TypeInner::Struct { members, span }) = (&bound.name, &bound.inner) else {
            continue;
        };
        _ = writeln!(checks, "const _: () = {{");
        _ = writeln!(checks, "    use core::mem::{{offset_of, size_of}};");
        _ = writeln!(checks, "    assert!(size_of::<crate::layout::{name}>() == {span});");
        for member in members {
            let field = member.name.as_deref().unwrap_or_default();
            let size = module.types[member.ty].inner.size(module.to_ctx());
            _ = writeln!(
                checks,
                "    assert!(offset_of!(crate::layout::{name}, {field}) == {});\n    \
                 assert!(crate::layout::size_of_member(|s: &crate::layout::{name}| s.{field}) == {size});",
                member.offset
            );
        }
        _ = writeln!(checks, "}};");
    }
}
