//! Which adapters there are, and which one a choice means.

use std::ffi::OsString;
use std::fmt;

use isotick_shaders::ALL;

use crate::error::GpuError;
use crate::variant::Variant;

/// The interfaces this build asks for adapters.
const BACKENDS: &str = "Vulkan, Metal or DirectX 12";
/// Storage bindings below this would cut inputs into needlessly small chunks; the WebGPU minimum.
const BINDING_BYTES_MIN: u64 = 128 << 20;

/// What kernel variants and timings may use.
const OPTIONAL: wgpu::Features = wgpu::Features::SHADER_INT64
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::TIMESTAMP_QUERY);

/// Which adapter to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best hardware adapter: what automatic placement may use.
    #[default]
    HardwareOnly,
    /// The best hardware adapter, else a software one: what asking for a GPU means.
    Any,
    /// The adapter with this [`AdapterInfo::index`].
    Index(usize),
    /// The first adapter whose name contains this text, ignoring case.
    Name(String),
}

impl Choice {
    /// The variable that names an adapter by its index or a part of its name.
    pub const VARIABLE: &'static str = "ISOTICK_ADAPTER";

    /// What an environment means, asked by variable's name: the adapter that [`Self::VARIABLE`]
    /// names, else [`Self::Any`].
    pub fn of_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let wanted = variable(Self::VARIABLE).filter(|wanted| !wanted.is_empty());
        match wanted.map(|wanted| wanted.to_string_lossy().into_owned()) {
            None => Self::Any,
            Some(name) => name.parse().map_or(Self::Name(name), Self::Index),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HardwareOnly => f.write_str("hardware"),
            Self::Any => f.write_str("any"),
            Self::Index(index) => write!(f, "#{index}"),
            Self::Name(name) => write!(f, "named '{name}'"),
        }
    }
}

/// One adapter, for people and for `isotick devices`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its place in the driver's order: what [`Choice::Index`] means.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The interface: `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// The driver's name and version.
    pub driver: String,
    /// What kind of device it is.
    pub kind: AdapterKind,
    /// Optional features that kernel variants may use, and whether this adapter has them. The
    /// base path needs none.
    pub features: Vec<(&'static str, bool)>,
    /// Invocations of a subgroup, the fewest and the most that the driver may choose.
    pub subgroup_sizes: (u32, u32),
    /// What the device is opened with, of what it offers.
    pub(crate) offered: wgpu::Features,
    /// The limits that size chunks and workgroups.
    pub limits: AdapterLimits,
    /// When it would be used.
    pub usage: AdapterUsage,
    /// Why, in a sentence.
    pub reason: String,
}

impl AdapterInfo {
    /// Whether it computes on the CPU.
    pub fn is_software(&self) -> bool {
        self.kind == AdapterKind::Software
    }

    pub(crate) fn has(&self, features: wgpu::Features) -> bool {
        self.offered.contains(features)
    }
}

/// What kind of device an adapter is, the preferred ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A GPU handed into a virtual machine.
    Virtual,
    /// Not known.
    Other,
    /// Computes on the CPU.
    Software,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Other => "other",
            Self::Software => "software",
        })
    }
}

/// Limits of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdapterLimits {
    /// The greatest storage binding, bytes.
    pub storage_binding_bytes: u64,
    /// The greatest buffer, bytes.
    pub buffer_bytes: u64,
    /// Storage buffers per shader.
    pub storage_buffers: u32,
    /// Invocations per workgroup.
    pub workgroup_invocations: u32,
    /// Memory per workgroup, bytes.
    pub workgroup_memory_bytes: u32,
    /// Workgroups per dimension of a dispatch.
    pub workgroups_per_dimension: u32,
}

/// When an adapter would be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdapterUsage {
    /// By automatic placement, and when a GPU is asked for.
    Automatic,
    /// When a GPU is asked for.
    WhenAsked,
    /// When it is asked for by index or name.
    ByName,
    /// Never.
    Never,
}

impl fmt::Display for AdapterUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Automatic => "automatic",
            Self::WhenAsked => "when asked",
            Self::ByName => "by name",
            Self::Never => "never",
        })
    }
}

/// The adapters of this machine, in the driver's order; empty where there is no driver. Costs up
/// to some hundred milliseconds: drivers are loaded.
pub fn devices() -> Vec<AdapterInfo> {
    let adapters = enumerate();
    describe_all(adapters.iter().map(describe).collect())
}

/// An adapter and what is said of it.
pub(crate) fn choose(choice: &Choice) -> Result<(wgpu::Adapter, AdapterInfo), GpuError> {
    let mut adapters = enumerate();
    let infos = describe_all(adapters.iter().map(describe).collect());
    let info = infos[pick(&infos, choice)?].clone();
    Ok((adapters.swap_remove(info.index), info))
}

fn enumerate() -> Vec<wgpu::Adapter> {
    // No validation layers (noise and cost), and no settings from the environment.
    let descriptor = wgpu::InstanceDescriptor {
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor);
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY))
}

/// Everything but `index` and `usage`, which depend on the other adapters. `reason` holds what is
/// lacking, if anything is.
fn describe(adapter: &wgpu::Adapter) -> AdapterInfo {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    let driver = [info.driver, info.driver_info];
    let driver: Vec<_> = driver.iter().map(|part| part.trim()).filter(|p| !p.is_empty()).collect();
    let limits = AdapterLimits {
        storage_binding_bytes: limits.max_storage_buffer_binding_size,
        buffer_bytes: limits.max_buffer_size,
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
        workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
    };
    let flags = adapter.get_downlevel_capabilities().flags;
    AdapterInfo {
        index: 0,
        name: info.name,
        backend: info.backend.to_str().to_owned(),
        driver: driver.join(" "),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        },
        features: [
            ("64-bit integers", wgpu::Features::SHADER_INT64),
            ("subgroups", wgpu::Features::SUBGROUP),
            ("timestamp queries", wgpu::Features::TIMESTAMP_QUERY),
            ("mappable storage", wgpu::Features::MAPPABLE_PRIMARY_BUFFERS),
        ]
        .map(|(name, feature)| (name, features.contains(feature)))
        .to_vec(),
        subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
        offered: features.intersection(OPTIONAL),
        usage: AdapterUsage::Never,
        reason: lacking(&limits, flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)),
        limits,
    }
}

/// What the kernels need and this adapter lacks; empty when nothing.
fn lacking(limits: &AdapterLimits, compute: bool) -> String {
    let storage_buffers = ALL
        .iter()
        .map(|shader| {
            shader.bindings.iter().filter(|b| b.access != isotick_shaders::Access::Uniform).count()
        })
        .max()
        .unwrap_or(0);
    if !compute {
        "compute shaders".into()
    } else if (limits.storage_buffers as usize) < storage_buffers {
        format!("{storage_buffers} storage buffers per shader (it has {})", limits.storage_buffers)
    } else if limits.storage_binding_bytes.min(limits.buffer_bytes) < BINDING_BYTES_MIN {
        format!("storage bindings of {} MiB", BINDING_BYTES_MIN >> 20)
    } else if limits.workgroup_invocations < Variant::BASE.shape.workgroup_size() {
        format!("workgroups of {} invocations", Variant::BASE.shape.workgroup_size())
    } else {
        String::new()
    }
}

/// Gives each adapter its index, usage and reason.
fn describe_all(mut infos: Vec<AdapterInfo>) -> Vec<AdapterInfo> {
    for (index, info) in infos.iter_mut().enumerate() {
        info.index = index;
    }
    let best = infos
        .iter()
        .filter(|info| info.reason.is_empty())
        .min_by_key(|info| (info.kind, info.index))
        .map(|info| (info.index, info.kind));
    for info in &mut infos {
        (info.usage, info.reason) = match best {
            _ if !info.reason.is_empty() => {
                (AdapterUsage::Never, format!("it lacks {}", info.reason))
            }
            Some((index, kind)) if index == info.index => match kind {
                AdapterKind::Software => (
                    AdapterUsage::WhenAsked,
                    "software: the CPU engine is faster, so only a request for a GPU uses it"
                        .into(),
                ),
                _ => (AdapterUsage::Automatic, format!("the best {kind} adapter here")),
            },
            best => {
                let (index, _) = best.expect("an adapter that lacks nothing makes a best one");
                let preferred = format!("adapter #{index} is preferred");
                (AdapterUsage::ByName, preferred)
            }
        };
    }
    infos
}

/// The index of the adapter that a choice means.
fn pick(infos: &[AdapterInfo], choice: &Choice) -> Result<usize, GpuError> {
    if infos.is_empty() {
        return Err(GpuError::NoAdapter { backends: BACKENDS });
    }
    let found = match choice {
        Choice::HardwareOnly | Choice::Any => infos
            .iter()
            .find(|i| matches!(i.usage, AdapterUsage::Automatic | AdapterUsage::WhenAsked)),
        Choice::Index(index) => infos.get(*index),
        Choice::Name(name) => {
            let name = name.to_lowercase();
            infos.iter().find(|info| info.name.to_lowercase().contains(&name))
        }
    };
    let names = || {
        let names: Vec<_> = infos.iter().map(|i| format!("#{} {}", i.index, i.name)).collect();
        names.join(", ")
    };
    match found {
        Some(info) if info.usage == AdapterUsage::Never => Err(unsupported(info)),
        Some(info) if *choice == Choice::HardwareOnly && info.is_software() => {
            Err(GpuError::OnlySoftware { found: names() })
        }
        Some(info) => Ok(info.index),
        None => match choice {
            Choice::HardwareOnly | Choice::Any => Err(unsupported(&infos[0])),
            _ => Err(GpuError::NoSuchAdapter { choice: choice.to_string(), found: names() }),
        },
    }
}

fn unsupported(info: &AdapterInfo) -> GpuError {
    let lacking = info.reason.strip_prefix("it lacks ").unwrap_or(&info.reason).to_owned();
    GpuError::Unsupported { adapter: info.name.clone(), lacking }
}

#[cfg(test)]
#[path = "tests/adapters.rs"]
pub(crate) mod tests;
