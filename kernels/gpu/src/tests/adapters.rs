use super::*;

pub(crate) fn info(name: &str, kind: AdapterKind, lacking: &str) -> AdapterInfo {
    AdapterInfo {
        index: 0,
        name: name.into(),
        backend: "vulkan".into(),
        driver: "test 1".into(),
        kind,
        features: vec![],
        subgroup_sizes: (0, 0),
        offered: wgpu::Features::empty(),
        limits: AdapterLimits {
            storage_binding_bytes: 128 << 20,
            buffer_bytes: 1 << 30,
            storage_buffers: 8,
            workgroup_invocations: 256,
            workgroup_memory_bytes: 16 << 10,
            workgroups_per_dimension: 65_535,
        },
        usage: AdapterUsage::Never,
        reason: lacking.into(),
    }
}

fn error(infos: &[AdapterInfo], choice: Choice) -> String {
    pick(infos, &choice).unwrap_err().to_string()
}

#[test]
fn the_best_hardware_is_automatic() {
    let infos = describe_all(vec![
        info("llvmpipe", AdapterKind::Software, ""),
        info("old card", AdapterKind::Discrete, "compute shaders"),
        info("inside", AdapterKind::Integrated, ""),
        info("card", AdapterKind::Discrete, ""),
    ]);
    let usages: Vec<_> = infos.iter().map(|info| info.usage).collect();
    use AdapterUsage::{Automatic, ByName, Never};
    assert_eq!(usages, [ByName, Never, ByName, Automatic]);
    assert_eq!(infos[3].reason, "the best discrete adapter here");
    assert_eq!(infos[0].reason, "adapter #3 is preferred");
    assert_eq!(pick(&infos, &Choice::HardwareOnly).unwrap(), 3);
    assert_eq!(pick(&infos, &Choice::Any).unwrap(), 3);
    assert_eq!(pick(&infos, &Choice::Index(0)).unwrap(), 0);
    assert_eq!(pick(&infos, &Choice::Name("INSIDE".into())).unwrap(), 2);
    assert!(error(&infos, Choice::Index(1)).starts_with("old card lacks compute shaders"));
    let unknown = error(&infos, Choice::Index(9));
    assert!(unknown.contains("#9") && unknown.contains("#3 card"), "{unknown}");
}

#[test]
fn software_is_never_automatic() {
    let infos = describe_all(vec![info("llvmpipe", AdapterKind::Software, "")]);
    assert_eq!(infos[0].usage, AdapterUsage::WhenAsked);
    assert_eq!(pick(&infos, &Choice::Any).unwrap(), 0);
    assert!(error(&infos, Choice::HardwareOnly).contains("only software adapters here"));
}

#[test]
fn no_adapter_names_the_remedy() {
    let error = error(&[], Choice::Any);
    assert!(error.contains("mesa-vulkan-drivers libvulkan1"), "{error}");
}

#[test]
fn only_unsupported_adapters_say_what_they_lack() {
    let infos = describe_all(vec![info("old", AdapterKind::Discrete, "compute shaders")]);
    assert_eq!(infos[0].reason, "it lacks compute shaders");
    assert!(error(&infos, Choice::Any).starts_with("old lacks compute shaders"));
}

#[test]
fn limits_below_the_kernels_need_are_named() {
    let mut limits = info("small", AdapterKind::Discrete, "").limits;
    assert_eq!(lacking(&limits, true), "");
    assert_eq!(lacking(&limits, false), "compute shaders");
    limits.workgroup_invocations = 32;
    assert!(lacking(&limits, true).contains("64 invocations"));
    limits.storage_binding_bytes = 1 << 20;
    assert!(lacking(&limits, true).contains("128 MiB"));
    limits.storage_buffers = 4;
    assert!(lacking(&limits, true).contains("7 storage buffers per shader (it has 4)"));
}

#[test]
fn listing_never_fails() {
    for info in devices() {
        eprintln!("{info:#?}");
        assert!(!info.name.is_empty() && !info.reason.is_empty());
    }
}

#[test]
fn the_environment_names_an_adapter_by_index_or_name() {
    let of = |value: Option<&str>| {
        Choice::of_environment(|name| {
            assert_eq!(name, "ISOTICK_ADAPTER");
            value.map(Into::into)
        })
    };
    assert_eq!([of(None), of(Some(""))], [Choice::Any, Choice::Any]);
    assert_eq!(of(Some("1")), Choice::Index(1));
    assert_eq!(of(Some("llvmpipe")), Choice::Name("llvmpipe".into()));
}
