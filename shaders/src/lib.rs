#![doc = include_str!("../README.md")]

pub mod layout;

#[cfg(test)]
mod import;
#[cfg(test)]
mod tests;

/// A validated shader with one compute entry point of its own name.
#[derive(Clone, Copy, Debug)]
pub struct Shader {
    /// The file's name without extension, and the entry point.
    pub name: &'static str,
    /// Every combination of its flags.
    pub permutations: &'static [Permutation],
    /// The resources of group 0, by index, as reflected from the source: the same in every
    /// permutation.
    pub bindings: &'static [Binding],
}

impl Shader {
    /// The permutation with those of `flags` that this shader knows; it ignores the others.
    pub fn permutation(&self, flags: &[&str]) -> &'static Permutation {
        let most = self.permutations.last().expect("there is one without flags");
        let wanted = |flag: &&str| flags.contains(flag);
        let is_wanted = |permutation: &&Permutation| {
            most.flags.iter().all(|flag| wanted(flag) == permutation.flags.contains(flag))
        };
        self.permutations.iter().find(is_wanted).expect("every combination is built")
    }
}

/// One combination of a shader's flags.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    /// The [`flags`] that are set.
    pub flags: &'static [&'static str],
    /// WGSL, directives resolved.
    pub source: &'static str,
}

/// The flags that shaders are permuted by.
pub mod flags {
    /// The column holds u32 deltas from a base.
    pub const FRAME: &str = "FRAME";
    /// Column a of a pair holds u32 deltas from a base.
    pub const A_FRAME: &str = "A_FRAME";
    /// Column b of a pair holds u32 deltas from a base.
    pub const B_FRAME: &str = "B_FRAME";
    /// 64-bit integers instead of limbs.
    pub const INT64: &str = "INT64";
    /// Subgroup shuffles before workgroup memory.
    pub const SUBGROUP: &str = "SUBGROUP";
}

/// One resource of a shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The binding's index in group 0.
    pub index: u32,
    /// The variable's name.
    pub name: &'static str,
    /// What it is.
    pub access: Access,
}

/// What a binding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A uniform buffer.
    Uniform,
    /// A storage buffer that the shader only reads.
    Read,
    /// A storage buffer that the shader writes.
    ReadWrite,
}

/// The names of `override` constants. The first three are those that every reduce shader has.
pub mod overrides {
    /// The most rows of a segment.
    pub const SEGMENT_ROWS_MAX: &str = "SEGMENT_ROWS_MAX";
    /// Invocations of a workgroup, a power of two.
    pub const WORKGROUP_SIZE: &str = "WORKGROUP_SIZE";
    /// 0 where every row is valid and validity words are not read, else 1.
    pub const NULLABLE: &str = "NULLABLE";
    /// Of `ends_reduce` and `ends_reduce_group`: 1 where keys order the rows, 0 where their numbers
    /// do.
    pub const ORDERED: &str = "ORDERED";
    /// Of the shaders of a partition: rows of a tile, in rounds of [`PARTITION_LANES`].
    ///
    /// [`PARTITION_LANES`]: crate::PARTITION_LANES
    pub const TILE_ROUNDS: &str = "TILE_ROUNDS";
    /// Of `partition_scatter`: 1 in the pass of the lowest digit, else 0.
    pub const FIRST_PASS: &str = "FIRST_PASS";
}

/// Invocations of a workgroup of the shaders of a partition and of gathers.
pub const PARTITION_LANES: u32 = 256;
/// Bits of the digits that a partition sorts by.
pub const DIGIT_BITS: u32 = 8;

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
