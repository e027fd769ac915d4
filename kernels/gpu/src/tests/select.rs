use super::*;
use crate::adapters::AdapterKind;
use crate::adapters::tests::info;

#[test]
fn run_lengths_fall_into_classes() {
    let classes = [1, 32, 33, 1024, 1025, u32::MAX].map(RunClass::of);
    use RunClass::{Long, Medium, Short};
    assert_eq!(classes, [Short, Short, Medium, Medium, Long, Long]);
}

#[test]
fn the_cheapest_over_all_rows_is_chosen() {
    let group = Variant { shape: Shape::Workgroup, ..Variant::BASE };
    let selection = Selection {
        ns_per_row: BTreeMap::from([
            (Variant::BASE, [1.0, 2.0, 4.0].map(Some)),
            (group, [None, Some(2.0), Some(1.0)]),
        ]),
        forced: None,
        partition_ns_per_row: None,
    };
    assert_eq!(selection.cheapest([100.0, 0.0, 10.0]), Variant::BASE);
    assert_eq!(selection.cheapest([0.0, 1.0, 10.0]), group);
    // A tie goes to the first, and so does nothing at all.
    assert_eq!(selection.cheapest([0.0, 5.0, 0.0]), Variant::BASE);
    assert_eq!(selection.cheapest([0.0; 3]), Variant::BASE);
    assert_eq!(selection.chosen(), [Variant::BASE, group]);
    let forced = Selection { forced: Some(group), ..selection };
    assert_eq!(forced.cheapest([100.0, 0.0, 0.0]), group);
}

#[test]
fn unmeasured_hardware_reduces_long_runs_by_workgroups() {
    let software = Selection::of_kind(&info("llvmpipe", AdapterKind::Software, ""));
    assert_eq!(software.chosen(), [Variant::BASE]);
    let hardware = Selection::of_kind(&info("card", AdapterKind::Discrete, ""));
    let group = Variant { shape: Shape::Workgroup, ..Variant::BASE };
    assert_eq!(hardware.cheapest([0.0, 0.0, 1.0]), group);
    assert_eq!(hardware.cheapest([1.0, 0.0, 0.0]), Variant::BASE);
}
