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
    /// WGSL, imports resolved.
    pub source: &'static str,
    /// The resources of group 0, by index, as reflected from the source.
    pub bindings: &'static [Binding],
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

/// The names of the `override` constants that every reduce shader has.
pub mod overrides {
    /// The most rows of a segment.
    pub const SEGMENT_ROWS_MAX: &str = "SEGMENT_ROWS_MAX";
    /// Invocations of a workgroup, one segment each.
    pub const WORKGROUP_SIZE: &str = "WORKGROUP_SIZE";
    /// 0 where every row is valid and validity words are not read, else 1.
    pub const NULLABLE: &str = "NULLABLE";
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

/// Every shader, by name.
pub const ALL: &[Shader] = &[COLUMN_REDUCE, PRODUCT_REDUCE];
