use super::*;
use crate::adapters::AdapterKind;
use crate::adapters::tests::info;

#[test]
fn names_are_unique_and_the_base_needs_nothing() {
    let names: std::collections::BTreeSet<_> = Variant::all().map(|v| v.to_string()).collect();
    assert_eq!(names.len(), Variant::all().count());
    assert!(names.contains("group/wide/int64+subgroup"), "{names:?}");
    let bare = info("bare", AdapterKind::Discrete, "");
    assert_eq!(Variant::BASE.lacking(&bare), None);
}

#[test]
fn what_an_adapter_lacks_is_said() {
    let variant = Variant {
        shape: Shape::Workgroup,
        encoding: Encoding::Wide,
        arithmetic: Arithmetic::Int64,
        subgroups: true,
    };
    let mut adapter = info("card", AdapterKind::Discrete, "");
    assert!(variant.lacking(&adapter).unwrap().contains("64-bit"));
    adapter.offered = wgpu::Features::SHADER_INT64;
    assert!(variant.lacking(&adapter).unwrap().contains("subgroup"));
    adapter.offered |= wgpu::Features::SUBGROUP;
    adapter.subgroup_sizes = (32, 32);
    assert_eq!(variant.lacking(&adapter), None);
    adapter.subgroup_sizes = (4, 256);
    assert_eq!(
        variant.lacking(&adapter).unwrap(),
        "subgroups that divide a workgroup (it has 4 to 256)"
    );
    adapter.limits.workgroup_invocations = 64;
    assert!(variant.lacking(&adapter).unwrap().contains("workgroups of 128"));
}
