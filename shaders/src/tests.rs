use crate::{ALL, Access, flags, overrides};

#[test]
fn headers_have_their_parts_in_order() {
    let parts = ["Reads:", "Writes:", "Dispatch:", "Requires:", "Ensures:", "Order:", "Source:"];
    for shader in ALL {
        let header =
            shader.permutations[0].source.lines().take_while(|line| line.starts_with("//"));
        let found: Vec<_> = header
            .skip(1)
            .filter_map(|line| line.trim_start_matches('/').split_whitespace().next())
            .filter(|word| parts.contains(word))
            .collect();
        assert_eq!(found, parts, "{}.wgsl", shader.name);
    }
}

#[test]
fn every_shader_is_listed_and_shares_the_shape_of_a_reduction() {
    let files = std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
    let shaders = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"));
    assert_eq!(shaders.count(), ALL.len());
    for shader in ALL.iter().filter(|shader| shader.name.contains("_reduce")) {
        for name in [overrides::SEGMENT_ROWS_MAX, overrides::WORKGROUP_SIZE, overrides::NULLABLE] {
            for permutation in shader.permutations {
                let declared = permutation.source.contains(&format!("override {name}:"));
                assert!(declared, "{} {:?}", shader.name, permutation.flags);
            }
        }
        let resources: Vec<_> = shader.bindings.iter().map(|b| (b.name, b.access)).collect();
        assert_eq!(resources[..2], [("header", Access::Uniform), ("segments", Access::Read)]);
        assert_eq!(
            resources[resources.len() - 3..],
            [
                ("validity", Access::Read),
                ("partials", Access::ReadWrite),
                ("status", Access::ReadWrite)
            ]
        );
    }
}

#[test]
fn permutations_are_found_by_the_flags_that_a_shader_knows() {
    for shader in ALL {
        for permutation in shader.permutations {
            let mut flags = permutation.flags.to_vec();
            assert_eq!(shader.permutation(&flags).source, permutation.source);
            flags.push("unknown");
            assert_eq!(shader.permutation(&flags).source, permutation.source);
        }
        let plain = shader.permutation(&[]);
        assert!(plain.flags.is_empty() && !plain.source.contains("u64"), "{}", shader.name);
        let has_words = shader.permutations.iter().any(|of| of.flags.contains(&flags::INT64));
        let words = shader.permutation(&[flags::INT64]);
        assert_eq!(words.source.contains("u64"), has_words, "{}", shader.name);
        assert!(!words.source.contains("subgroupShuffle"), "{}", shader.name);
    }
}

#[test]
fn the_host_knows_the_sizes_of_a_partition() {
    for shader in ALL.iter().filter(|shader| !shader.name.contains("_reduce")) {
        let source = shader.permutations[0].source;
        let lanes = format!("const WORKGROUP_SIZE: u32 = {}u;", crate::PARTITION_LANES);
        assert!(source.contains(&lanes), "{}", shader.name);
        let digits = format!("const DIGIT_BITS: u32 = {}u;", crate::DIGIT_BITS);
        let is_pass = shader.name.starts_with("partition_");
        assert_eq!(source.contains(&digits), is_pass, "{}", shader.name);
        assert!(!is_pass || source.contains(&format!("override {}:", overrides::TILE_ROUNDS)));
    }
}
