//! The variants of the kernels: all exact, all with the same partials.

use std::fmt;

use isotick_shaders::{
    COLUMN_REDUCE, COLUMN_REDUCE_GROUP, PRODUCT_REDUCE, PRODUCT_REDUCE_GROUP, Shader,
};

use crate::adapters::AdapterInfo;
use crate::work::Input;

/// One way to reduce. Its text form (`segment/frame/limbs`, `group/wide/int64+subgroup`) is what
/// [`Variant::all`] can be searched by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// Who reduces a segment.
    pub shape: Shape,
    /// How columns cross to the device.
    pub encoding: Encoding,
    /// What sums are made of.
    pub arithmetic: Arithmetic,
    /// Whether the invocations of a workgroup exchange states through subgroup shuffles.
    pub subgroups: bool,
}

/// Who reduces a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    /// One invocation walks it row by row: best for short runs.
    Invocation,
    /// A workgroup strides over it, so that neighbours read neighbouring rows.
    Workgroup,
}

/// How columns cross to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// As 64-bit values.
    Wide,
    /// As u32 deltas from a base where a column's span in a chunk fits, else as 64-bit values.
    Frame,
}

/// What sums are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arithmetic {
    /// 32-bit limbs: core WGSL.
    Limbs,
    /// 64-bit integers.
    Int64,
}

impl Variant {
    /// Core WGSL, an invocation per segment, frames where they fit: runs on every adapter.
    pub const BASE: Self = Self {
        shape: Shape::Invocation,
        encoding: Encoding::Frame,
        arithmetic: Arithmetic::Limbs,
        subgroups: false,
    };

    /// Every variant, in an order that does not change.
    pub fn all() -> impl Iterator<Item = Self> {
        let mut all = Vec::new();
        for shape in [Shape::Invocation, Shape::Workgroup] {
            for encoding in [Encoding::Wide, Encoding::Frame] {
                for arithmetic in [Arithmetic::Limbs, Arithmetic::Int64] {
                    let variant = Self { shape, encoding, arithmetic, subgroups: false };
                    all.push(variant);
                    if shape == Shape::Workgroup {
                        all.push(Self { subgroups: true, ..variant });
                    }
                }
            }
        }
        all.into_iter()
    }

    /// What the adapter lacks to run it, for people; `None` where it can.
    pub fn lacking(self, adapter: &AdapterInfo) -> Option<String> {
        if self.arithmetic == Arithmetic::Int64 && !adapter.has(wgpu::Features::SHADER_INT64) {
            return Some("64-bit integers in shaders".into());
        }
        if self.shape.workgroup_size() > adapter.limits.workgroup_invocations {
            return Some(format!("workgroups of {} invocations", self.shape.workgroup_size()));
        }
        if !self.subgroups {
            return None;
        }
        if !adapter.has(wgpu::Features::SUBGROUP) {
            return Some("subgroup operations".into());
        }
        let (least, most) = adapter.subgroup_sizes;
        // Sizes are powers of two: the greatest divides the workgroup if it is not greater.
        let fits = least >= 1 && most.is_power_of_two() && most <= self.shape.workgroup_size();
        (!fits).then(|| format!("subgroups that divide a workgroup (it has {least} to {most})"))
    }

    /// The shader for an input.
    pub(crate) fn shader(self, input: Input) -> &'static Shader {
        match (input, self.shape) {
            (Input::Column(_), Shape::Invocation) => &COLUMN_REDUCE,
            (Input::Column(_), Shape::Workgroup) => &COLUMN_REDUCE_GROUP,
            (Input::Pair(..), Shape::Invocation) => &PRODUCT_REDUCE,
            (Input::Pair(..), Shape::Workgroup) => &PRODUCT_REDUCE_GROUP,
        }
    }
}

impl Shape {
    /// Invocations of a workgroup, a power of two. 64 suits every vendor's subgroup size.
    pub const fn workgroup_size(self) -> u32 {
        match self {
            Self::Invocation => 64,
            Self::Workgroup => 128,
        }
    }

    /// The most rows of a segment. An invocation's are few, because long segments leave
    /// invocations idle at the end of a dispatch; a workgroup's are more, because each ends in a
    /// reduction over its invocations.
    pub const fn segment_rows_max(self) -> u32 {
        match self {
            Self::Invocation => 512,
            Self::Workgroup => 2048,
        }
    }

    /// Segments of one workgroup.
    pub const fn segments_per_workgroup(self) -> u32 {
        match self {
            Self::Invocation => self.workgroup_size(),
            Self::Workgroup => 1,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match self.shape {
            Shape::Invocation => "segment",
            Shape::Workgroup => "group",
        };
        let encoding = match self.encoding {
            Encoding::Wide => "wide",
            Encoding::Frame => "frame",
        };
        let arithmetic = match self.arithmetic {
            Arithmetic::Limbs => "limbs",
            Arithmetic::Int64 => "int64",
        };
        let subgroups = if self.subgroups { "+subgroup" } else { "" };
        write!(f, "{shape}/{encoding}/{arithmetic}{subgroups}")
    }
}

#[cfg(test)]
#[path = "tests/variant.rs"]
mod tests;
