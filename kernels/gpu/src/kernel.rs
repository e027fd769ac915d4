//! Shaders as compute pipelines, laid out as reflection says.

use std::collections::HashMap;

use isotick_shaders::{Access, Shader, flags, overrides};

use crate::device::Device;
use crate::variant::{Arithmetic, Shape, Variant};
use crate::work::Input;

/// One compiled shader.
pub(crate) struct Pipeline {
    pub shader: &'static Shader,
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// One compiled permutation of a reduction.
pub(crate) struct Kernel {
    shape: Shape,
    pipeline: Pipeline,
}

/// A part of a buffer, in bytes.
pub(crate) struct Part<'a> {
    pub buffer: &'a wgpu::Buffer,
    pub offset: u64,
    pub bytes: u64,
}

impl<'a> Part<'a> {
    /// The front of a buffer.
    pub fn front(buffer: &'a wgpu::Buffer, bytes: u64) -> Self {
        Self { buffer, offset: 0, bytes }
    }
}

/// What tells the kernels of one shader apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Permutation {
    pub variant: Variant,
    /// Whether it reduces a pair of columns.
    pub is_pair: bool,
    /// Which of the (at most two) columns hold deltas.
    pub framed: [bool; 2],
    /// Whether rows may be null.
    pub nullable: bool,
}

impl Permutation {
    pub fn shader(&self) -> &'static Shader {
        // The columns' numbers are of no account to the choice.
        self.variant.shader(if self.is_pair { Input::Pair(0, 0) } else { Input::Column(0) })
    }

    /// The WGSL source.
    pub fn source(&self) -> &'static str {
        let [first, second] = self.framed;
        let all = [
            (flags::FRAME, !self.is_pair && first),
            (flags::A_FRAME, first),
            (flags::B_FRAME, second),
            (flags::INT64, self.variant.arithmetic == Arithmetic::Int64),
            (flags::SUBGROUP, self.variant.subgroups),
        ];
        let set: Vec<_> = all.iter().filter(|(_, on)| *on).map(|(flag, _)| *flag).collect();
        self.shader().permutation(&set).source
    }
}

/// The kernels compiled so far.
#[derive(Default)]
pub(crate) struct Kernels(HashMap<Permutation, Kernel>);

impl Kernels {
    /// The kernel, compiled where it is new. Errors are reported through the device.
    pub fn get(&mut self, device: &Device, permutation: Permutation) -> &Kernel {
        self.0
            .entry(permutation)
            .or_insert_with(|| Kernel::new(device, permutation, permutation.source()))
    }
}

impl Kernel {
    /// Compiles a permutation from its source, or from one that a test has spoiled. Errors are
    /// reported through the device.
    pub fn new(device: &Device, permutation: Permutation, source: &str) -> Self {
        let shape = permutation.variant.shape;
        let nullable = f64::from(u8::from(permutation.nullable));
        let [rows_max, lanes] = reduction_constants(shape);
        let constants = [rows_max, lanes, (overrides::NULLABLE, nullable)];
        Self { shape, pipeline: Pipeline::new(device, permutation.shader(), source, &constants) }
    }

    /// Records a dispatch over `segments` segments into a pass. `parts` are what to bind, in the
    /// order of the shader's bindings.
    pub fn record(
        &self,
        device: &Device,
        pass: &mut wgpu::ComputePass<'_>,
        parts: &[Part<'_>],
        segments: u32,
    ) {
        let workgroups = segments.div_ceil(self.shape.segments_per_workgroup());
        self.pipeline.record(device, pass, parts, workgroups);
    }
}

/// The sizes of a reduction.
pub(crate) fn reduction_constants(shape: Shape) -> [(&'static str, f64); 2] {
    [
        (overrides::SEGMENT_ROWS_MAX, f64::from(shape.segment_rows_max())),
        (overrides::WORKGROUP_SIZE, f64::from(shape.workgroup_size())),
    ]
}

impl Pipeline {
    /// Compiles a shader from its source, or from one that a test has spoiled. Errors are reported
    /// through the device.
    pub fn new(
        device: &Device,
        shader: &'static Shader,
        source: &str,
        constants: &[(&str, f64)],
    ) -> Self {
        let entries: Vec<_> = shader
            .bindings
            .iter()
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding: binding.index,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match binding.access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let wgpu_device = &device.device;
        let layout = wgpu_device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(shader.name),
            entries: &entries,
        });
        let module = wgpu_device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(shader.name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline_layout = wgpu_device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(shader.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = wgpu_device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(shader.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                // Workgroup memory is written before it is read.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Self { shader, pipeline, layout }
    }

    /// Records a dispatch of some workgroups into a pass. `parts` are what to bind, in the order of
    /// the shader's bindings.
    pub fn record(
        &self,
        device: &Device,
        pass: &mut wgpu::ComputePass<'_>,
        parts: &[Part<'_>],
        workgroups: u32,
    ) {
        assert_eq!(parts.len(), self.shader.bindings.len(), "{} bindings", self.shader.name);
        let entries: Vec<_> = self
            .shader
            .bindings
            .iter()
            .zip(parts)
            .map(|(binding, part)| wgpu::BindGroupEntry {
                binding: binding.index,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: part.buffer,
                    offset: part.offset,
                    size: wgpu::BufferSize::new(part.bytes),
                }),
            })
            .collect();
        let group = device.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.shader.name),
            layout: &self.layout,
            entries: &entries,
        });
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(workgroups, 1, 1);
    }
}
